/** Finding links in plain text, for the desk and the widget. */

export type Piece = { text: string; href?: string }

/** Cuts plain text into words and http(s) links; nothing else ever becomes a link. */
export function linkify(text: string): Piece[] {
  const pieces: Piece[] = []
  let at = 0
  for (const match of text.matchAll(/https?:\/\/[^\s<>"']+/g)) {
    const href = match[0].replace(/[.,;:!?)\]}»”]+$/, '')
    if (match.index > at) pieces.push({ text: text.slice(at, match.index) })
    pieces.push({ text: href, href })
    at = match.index + href.length
  }
  if (at < text.length) pieces.push({ text: text.slice(at) })
  return pieces
}
