// What only browsers do, behind client.mjs in one page: it posts what it has seen to the engine, of another origin.

async function useOnlyInBrowsers(base) {
  const seen = { origin: location.origin, events: [], opened: 0 }
  const events = new EventSource(`${base}/events`)
  await new Promise((resolve) => {
    events.onopen = () => seen.opened++
    events.onmessage = async ({ data, lastEventId }) => {
      seen.events.push([data, lastEventId])
      if (seen.events.length === 4) {
        events.close()
        resolve()
      } else {
        await fetch(`${base}/go-on`, { method: 'POST' })
      }
    }
  })
  const response = await fetch(`${base}/shown`, {
    method: 'DELETE',
    headers: { 'X-Custom': 'preflighted' },
  }).then((response) => response.json())
  seen.preflighted = [response.method, response.custom]
  return seen
}

async function report() {
  const base = new URLSearchParams(location.search).get('engine')
  let seen
  try {
    seen = { ...(await use(base)), ...(await useOnlyInBrowsers(base)) }
  } catch (error) {
    seen = { error: String(error) }
  }
  await fetch(`${base}/report`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(seen),
  })
}
