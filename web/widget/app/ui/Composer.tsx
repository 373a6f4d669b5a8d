/** Where the visitor writes: Enter sends, Shift+Enter breaks the line, files wait as chips until sent. */

import { useRef, useState } from 'preact/hooks'
import type { ChatClient } from '../client'
import { fileSize } from '../format'
import type { Translate } from '../i18n'
import type { ChatAttachment } from '../protocol'

export function Composer({ client, t }: { client: ChatClient; t: Translate }) {
  const [text, setText] = useState('')
  const [files, setFiles] = useState<ChatAttachment[]>([])
  const [busy, setBusy] = useState(0)
  const [problem, setProblem] = useState('')
  const picker = useRef<HTMLInputElement>(null)
  const area = useRef<HTMLTextAreaElement>(null)
  const maxText = client.config.max_text ?? 8000
  const over = text.length - maxText

  const send = (): void => {
    const words = text.trim()
    if ((!words && files.length === 0) || over > 0 || busy > 0) return
    client.say(words, { attachments: files })
    setText('')
    setFiles([])
    setProblem('')
    if (area.current) area.current.style.height = ''
    area.current?.focus()
  }

  const add = async (list: FileList | null): Promise<void> => {
    setProblem('')
    for (const file of Array.from(list ?? [])) {
      const limit = client.config.max_upload ?? 10_485_760
      if (file.size > limit) {
        setProblem(t('attachTooBig', { limit: fileSize(limit) }))
        continue
      }
      if (file.size === 0) {
        setProblem(t('attachEmpty'))
        continue
      }
      setBusy((n) => n + 1)
      try {
        const stored = await client.upload(file)
        setFiles((all) => [...all, stored])
      } catch (error) {
        setProblem((error as Error).message || t('attachFailed'))
      } finally {
        setBusy((n) => n - 1)
      }
    }
    if (picker.current) picker.current.value = ''
  }

  return (
    <form
      class="composer"
      onSubmit={(e) => {
        e.preventDefault()
        send()
      }}
      onDragOver={(e) => e.preventDefault()}
      onDrop={(e) => {
        e.preventDefault()
        void add(e.dataTransfer?.files ?? null)
      }}
    >
      {(files.length > 0 || busy > 0) && (
        <ul class="chips">
          {files.map((f) => (
            <li key={f.id}>
              <span>{f.name}</span>
              <button
                type="button"
                aria-label={t('removeFile', { name: f.name })}
                onClick={() => setFiles((all) => all.filter((x) => x.id !== f.id))}
              >
                ×
              </button>
            </li>
          ))}
          {busy > 0 && <li>{t('uploading')}</li>}
        </ul>
      )}
      {(problem || over > 0) && <p class="bad" role="alert">{problem || t('tooLong', { n: over })}</p>}
      <div class="bar">
        <input ref={picker} type="file" multiple hidden onChange={(e) => void add(e.currentTarget.files)} data-test="chat-file" />
        <button type="button" class="icon" aria-label={t('attach')} onClick={() => picker.current?.click()}>
          <svg viewBox="0 0 24 24" aria-hidden="true">
            <path d="M19 11.5l-7.2 7.2a4.6 4.6 0 0 1-6.5-6.5l7.6-7.6a3.1 3.1 0 0 1 4.4 4.4l-7.5 7.5a1.5 1.5 0 0 1-2.2-2.2l6.7-6.6" />
          </svg>
        </button>
        <textarea
          ref={area}
          rows={1}
          value={text}
          placeholder={t('placeholder')}
          aria-label={t('message')}
          data-test="chat-text"
          data-focus
          onInput={(e) => {
            const el = e.currentTarget
            setText(el.value)
            el.style.height = 'auto'
            el.style.height = `${Math.min(el.scrollHeight, 132)}px`
            if (el.value) client.typing()
          }}
          onKeyDown={(e) => {
            if (e.key !== 'Enter' || e.shiftKey || e.isComposing) return
            e.preventDefault()
            send()
          }}
          onPaste={(e) => {
            if (e.clipboardData?.files.length) {
              e.preventDefault()
              void add(e.clipboardData.files)
            }
          }}
        />
        <button type="submit" class="icon send" aria-label={t('send')} data-test="chat-send"
          disabled={(!text.trim() && files.length === 0) || over > 0 || busy > 0}>
          <svg viewBox="0 0 24 24" aria-hidden="true"><path d="M4 12L20 4l-5 16-3.5-6.5zM11.5 13.5L20 4" /></svg>
        </button>
      </div>
    </form>
  )
}
