/** Which pictures of a mail may be shown. Those on other servers never are: loading one tells its owner who read what. */

/** Embedded data, or a file of our own server; `//host/x` is another server without a scheme. */
export function isOwnImage(source: string): boolean {
  return /^(?:data:image\/|\/(?![/\\]))/i.test(source.trim())
}

/** Whether the markup names pictures that are left out, for the line that says so. */
export function namesRemoteImages(html: string): boolean {
  for (const [, quoted, bare] of html.matchAll(/<img\b[^>]*?\bsrc\s*=\s*(?:["']([^"'>]*)|([^\s"'>]+))/gi)) {
    const source = (quoted ?? bare ?? '').trim()
    if (/^(?:https?:)?[/\\]{2}/i.test(source)) return true
  }
  return false
}
