// What the tests ask of every HTTP client: `node client.mjs URL` prints what it has seen.  A browser runs the same.

async function use(base) {
  const seen = {}
  let response = await fetch(`${base}/shown?colour=gr%C3%BCn&q=a+b`, { headers: { 'X-Custom': 'yes' } })
  const shown = await response.json()
  seen.get = [response.status, shown.method, shown.query, shown.custom]

  response = await fetch(`${base}/shown`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ text: 'grüße' }),
  })
  seen.json = [response.status, (await response.json()).body]

  const bytes = new Uint8Array(300_000).map((_, number) => number % 251)
  response = await fetch(`${base}/shown`, { method: 'POST', body: bytes })
  seen.binary = [response.status, (await response.json()).bytes]

  response = await fetch(`${base}/pieces`)
  const reader = response.body.getReader()
  const read = async () => new TextDecoder().decode((await reader.read()).value)
  seen.pieces = [response.headers.get('content-type'), await read()]
  await fetch(`${base}/go-on`, { method: 'POST' })
  seen.pieces.push(await read())
  seen.ended = (await reader.read()).done

  response = await fetch(`${base}/file`, { headers: { Range: 'bytes=100-104' } })
  seen.range = [response.status, response.headers.get('content-range'), await response.text()]
  response = await fetch(`${base}/file`, { headers: { 'If-None-Match': response.headers.get('etag') } })
  seen.unchanged = [response.status, response.headers.get('last-modified'), await response.text()]

  response = await fetch(`${base}/nowhere`)
  seen.missing = [response.status, (await response.json()).error.code]
  return seen
}

if (typeof process === 'undefined') await report() // which only the page has
else console.log(JSON.stringify(await use(process.argv[2])))
