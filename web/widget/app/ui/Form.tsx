/** The form before the first word. Which fields it has is the inbox's decision. */

import { useState } from 'preact/hooks'
import type { ChatClient } from '../client'
import type { Texts, Translate } from '../i18n'
import type { InputType, PreChatField } from '../protocol'

const KNOWN: Record<string, { label: keyof Texts; type: InputType; autocomplete: string }> = {
  name: { label: 'fieldName', type: 'text', autocomplete: 'name' },
  phone: { label: 'fieldPhone', type: 'tel', autocomplete: 'tel' },
  email: { label: 'fieldEmail', type: 'email', autocomplete: 'email' },
}

export function Form({ client, t }: { client: ChatClient; t: Translate }) {
  const fields = (client.config.pre_chat ?? []).map((f): PreChatField => (typeof f === 'string' ? { name: f } : f))
  const [values, setValues] = useState<Record<string, string | boolean>>({})
  const [errors, setErrors] = useState<Record<string, string>>({})
  const [trap, setTrap] = useState('')
  const [problem, setProblem] = useState('')
  const [busy, setBusy] = useState(false)

  const set = (name: string, value: string | boolean): void => setValues((all) => ({ ...all, [name]: value }))
  const labelOf = (f: PreChatField): string => f.label || (f.name === 'consent' ? t('fieldConsent') : KNOWN[f.name] ? t(KNOWN[f.name]!.label) : f.name)
  const needed = (f: PreChatField): boolean => f.required ?? (f.name === 'consent' || f.name === 'name')

  const submit = async (event: Event): Promise<void> => {
    event.preventDefault()
    const found = check(fields, values, needed, t)
    setErrors(found)
    if (Object.keys(found).length > 0) {
      document.getElementById(`f-${Object.keys(found)[0]}`)?.focus()
      return
    }
    setBusy(true)
    setProblem('')
    try {
      // A filled honeypot is a robot's: the server decides what to do with it.
      await client.submitForm(trap ? { ...values, website: trap } : values)
    } catch (error) {
      setProblem((error as Error).message || t('formFailed'))
    } finally {
      setBusy(false)
    }
  }

  return (
    <form class="prechat" onSubmit={(e) => void submit(e)} noValidate data-test="chat-form">
      <p>{client.config.greeting || t('formIntro')}</p>
      {fields.map((f, i) => {
        const id = `f-${f.name}`
        const error = errors[f.name]
        const common = {
          id,
          name: f.name,
          required: needed(f),
          'aria-invalid': Boolean(error),
          'aria-describedby': error ? `${id}-e` : undefined,
          'data-test': `chat-field-${f.name}`,
          ...(i === 0 ? { 'data-focus': true } : {}),
        }
        return (
          <div class="field" key={f.name}>
            {f.name === 'consent' || f.type === 'checkbox' ? (
              <label class="check">
                <input type="checkbox" checked={values[f.name] === true} onChange={(e) => set(f.name, e.currentTarget.checked)} {...common} />
                <span>{labelOf(f)}</span>
              </label>
            ) : (
              <>
                <label for={id}>
                  {labelOf(f)} {!needed(f) && <small>({t('formOptional')})</small>}
                </label>
                <input
                  type={(f.type ?? KNOWN[f.name]?.type ?? 'text') as 'text'}
                  autocomplete={KNOWN[f.name]?.autocomplete}
                  value={String(values[f.name] ?? '')}
                  maxLength={320}
                  onInput={(e) => set(f.name, e.currentTarget.value)}
                  {...common}
                />
              </>
            )}
            {error && <p class="bad" id={`${id}-e`} role="alert">{error}</p>}
          </div>
        )
      })}
      <input class="trap" name="website" tabIndex={-1} autocomplete="off" aria-hidden="true" value={trap}
        onInput={(e) => setTrap(e.currentTarget.value)} />
      {problem && <p class="bad" role="alert">{problem}</p>}
      <button type="submit" class="primary" disabled={busy} data-test="chat-form-submit">{t('formStart')}</button>
    </form>
  )
}

function check(
  fields: PreChatField[],
  values: Record<string, string | boolean>,
  needed: (f: PreChatField) => boolean,
  t: Translate,
): Record<string, string> {
  const errors: Record<string, string> = {}
  for (const f of fields) {
    const value = values[f.name]
    const text = typeof value === 'string' ? value.trim() : value ? 'yes' : ''
    if (!text) {
      if (needed(f)) errors[f.name] = t('required')
    } else if (f.name === 'email' && !/^\S+@\S+\.\S+$/.test(text)) {
      errors[f.name] = t('badEmail')
    } else if (f.name === 'phone' && text.replace(/\D/g, '').length < 7) {
      errors[f.name] = t('badPhone')
    }
  }
  return errors
}
