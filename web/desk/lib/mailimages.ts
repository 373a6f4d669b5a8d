/** Which pictures of a mail may be shown. Those on other servers never are: loading one tells its owner who read what. */

/** Embedded data, or a file of our own server; `//host/x` is another server without a scheme. */
export function isOwnImage(source: string): boolean {
  return /^(?:data:image\/|\/(?![/\\]))/i.test(source.trim())
}

/** Whether pictures of the markup are left out, for the line that says so: the server strips the addresses of remote ones. */
export function leavesImagesOut(html: string): boolean {
  for (const [tag] of html.matchAll(/<img\b(?:"[^"]*"|'[^']*'|[^>"'])*>/gi)) {
    const [, double, single, bare] = /\ssrc\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))/i.exec(tag) ?? []
    const source = (double ?? single ?? bare ?? '').trim()
    if (source === '' || /^(?:https?:)?[/\\]{2}/i.test(source)) return true
  }
  return false
}
