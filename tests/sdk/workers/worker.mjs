// A worker on the published Node SDK: worker.mjs ENGINE_URL NAME.  The same program as worker.py, which says more.

import { createHash, randomBytes } from 'node:crypto'
import { Logger, TriggerAction, connect, createChannel, createStream, http } from './interface.mjs'

const PIECES = [1, 1000, 65536, 100_000] // bytes; SDKs cut at 64 KiB

const [url, name] = process.argv.slice(2)
const iii = connect(url, name)
const registered = new Map()
const providers = new Map()
const received = new Map()
const gates = new Map()

const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000))
const sha256 = () => createHash('sha256')
const pick = (object, keys) => Object.fromEntries(keys.filter((key) => key in object).map((key) => [key, object[key]]))

function keep(key, value) {
  received.set(key, [...(received.get(key) ?? []), value])
}

function gate(key) {
  if (!gates.has(key)) {
    const made = {}
    made.opened = new Promise((resolve) => { made.open = resolve })
    gates.set(key, made)
  }
  return gates.get(key)
}

async function throughGate(key) {
  const closed = () => { throw new Error(`gate ${key} stayed closed`) }
  await Promise.race([gate(key).opened, sleep(20).then(closed)])
}

class Provider {
  constructor(refusal) {
    this.refusal = refusal
    this.events = []
    this.bindings = new Map()
  }

  async registerTrigger({ id, function_id, config, metadata }) {
    this.events.push({ event: 'register', id, function_id, config, metadata: metadata ?? null })
    if (this.refusal) throw new Error(this.refusal)
    this.bindings.set(id, { function_id, metadata })
  }

  async unregisterTrigger({ id }) {
    this.events.push({ event: 'unregister', id })
    this.bindings.delete(id)
  }
}

function notes() {
  const items = new Map()
  const place = ({ group_id, item_id }) => JSON.stringify([group_id, item_id])
  return {
    get: async (given) => items.get(place(given)) ?? null,
    set: async (given) => {
      const [old_value, new_value] = [items.get(place(given)) ?? null, { kept: given.data }]
      items.set(place(given), new_value)
      return { old_value, new_value }
    },
    delete: async (given) => {
      const old_value = items.get(place(given)) ?? null
      items.delete(place(given))
      return { old_value }
    },
    list: async ({ group_id }) =>
      [...items].filter(([key]) => JSON.parse(key)[0] === group_id).map(([, value]) => value),
    listGroups: async () => [...new Set([...items.keys()].map((key) => JSON.parse(key)[0]))].sort(),
    update: async () => { throw new Error('never called') },
  }
}

async function write(writer, size) {
  const digest = sha256()
  const send = (piece) => new Promise((resolve, reject) => {
    writer.stream.write(piece, (error) => (error ? reject(error) : resolve()))
  })
  writer.sendMessage('begin')
  for (let left = size, turn = 0; left > 0; turn++) {
    const piece = randomBytes(Math.min(left, PIECES[turn % PIECES.length]))
    await send(piece)
    digest.update(piece)
    left -= piece.length
  }
  writer.sendMessage('end')
  await new Promise((resolve) => writer.stream.end(resolve))
  return { bytes: size, sha256: digest.digest('hex'), texts: ['begin', 'end'] }
}

async function read(reader) {
  const digest = sha256()
  const texts = []
  let bytes = 0
  reader.onMessage((text) => texts.push(text))
  for await (const piece of reader.stream) {
    digest.update(piece)
    bytes += piece.length
  }
  return { bytes, sha256: digest.digest('hex'), texts }
}

const plain = {
  // Calls
  nothing: async () => undefined,
  metadata_of: async (_data, metadata) => ({ metadata: metadata ?? null }),
  process: async () => ({ pid: process.pid }),
  fail: async (data) => { throw new Error(data.message ?? 'failed as told') },
  slow: async ({ seconds }) => { keep('slow', seconds); await sleep(seconds); return { slept: seconds } },
  generate: async ({ bytes }) => ({ text: 'x'.repeat(bytes) }),
  call: async (data) => {
    const request = pick(data, ['function_id', 'payload', 'metadata'])
    if ('timeout_ms' in data) request.timeoutMs = data.timeout_ms
    if (data.void) request.action = { type: 'void' }
    if ('enqueue' in data) request.action = TriggerAction.Enqueue({ queue: data.enqueue })
    try {
      return { result: (await iii.trigger(request)) ?? null }
    } catch (error) {
      const message = error.message.slice(error.code.length + 2) // the SDK puts the code in front
      return { error: { code: error.code, message, stacktrace: error.stacktrace ?? null } }
    }
  },
  receive: async (data, metadata) => keep(data.key, { data, metadata: metadata ?? null }),
  watch: async (data) => keep('watch', { data }),
  log: async ({ level, message, data }) => { new Logger()[level](message, data) },
  received_by: async ({ key }) => ({ received: received.get(key) ?? [] }),
  work: async ({ key, seconds }) => {
    keep(key, 'work')
    console.log('executing', key)
    await sleep(seconds)
    return { pid: process.pid }
  },
  attempt: async ({ key, n, seconds, gate, failures }) => {
    keep(key, { n, at_ms: performance.now() })
    const attempts = received.get(key).filter((note) => note.n === n).length
    await sleep(seconds ?? 0)
    if (gate) await throughGate(gate)
    if (attempts <= (failures ?? 0)) throw new Error(`attempt ${attempts} of ${n} fails as told`)
  },
  wanted: async ({ wanted }) => wanted,
  visit: async (request) => ({ status_code: 200, headers: {}, body: await plain.work(request.body) }),
  keep_calling: async (data) => { keepCalling(data) },

  // Channels
  write_channel: async ({ writer, bytes }) => write(writer, bytes),
  read_channel: async ({ reader }) => read(reader),
  push: async ({ function_id, bytes }) => {
    const channel = await createChannel(iii)
    const request = { function_id, payload: { reader: channel.readerRef } }
    const [received, sent] = await Promise.all([iii.trigger(request), write(channel.writer, bytes)])
    return { sent, received }
  },
  pull: async ({ function_id, bytes }) => {
    const channel = await createChannel(iii)
    const request = { function_id, payload: { writer: channel.writerRef, bytes } }
    const [sent, received] = await Promise.all([iii.trigger(request), read(channel.reader)])
    return { sent, received }
  },

  // Registrations
  register_function: async ({ id, handler }) => {
    registered.set(id, iii.registerFunction(id, plain[handler] ?? echo))
  },
  register_trigger: async (data) => {
    const trigger = pick(data, ['type', 'function_id', 'config', 'metadata'])
    registered.set(data.key, iii.registerTrigger(trigger))
  },
  unregister: async ({ key }) => { registered.get(key).unregister(); registered.delete(key) },
  register_type: async ({ id, description, refusal }) => {
    providers.set(id, new Provider(refusal))
    iii.registerTriggerType({ id, description: description ?? '' }, providers.get(id))
  },
  unregister_type: async ({ id }) => iii.unregisterTriggerType({ id, description: '' }),
  register_service: async ({ id }) => iii.registerService({ id, description: 'of a test' }),
  events: async ({ id }) => ({ events: providers.get(id).events }),
  fire: async ({ id, payload }) => {
    const results = []
    for (const { function_id, metadata } of [...providers.get(id).bindings.values()]) {
      results.push((await iii.trigger({ function_id, payload, metadata })) ?? null)
    }
    return { results }
  },

  keep_stream: async ({ name }) => { createStream(iii, name, notes()) },

  // Listings
  list: async ({ method }) => ({
    rows: await { list_functions: iii.listFunctions, list_workers: iii.listWorkers }[method](),
  }),
  watch_functions: async () => {
    iii.onFunctionsAvailable((rows) => keep('functions', rows.map((row) => row.function_id)))
  },

  // HTTP
  answer: async (request) => ({
    status_code: 201,
    headers: { 'x-worker': name },
    body: pick(request, ['method', 'path', 'path_params', 'query_params', 'headers', 'body']),
  }),
  open_gate: async (data) => { gate(data.gate).open() },
}

const streaming = {
  upload: async (request, response) => {
    const body = await request.request_body.readAll()
    response.status(202)
    response.headers({ 'content-type': 'text/plain', 'x-worker': name })
    response.stream.end(`${body.length} ${sha256().update(body).digest('hex')}`)
  },
  pieces: async (request, response) => {
    response.status(200)
    response.headers({ 'content-type': 'text/event-stream' })
    response.stream.write('first')
    const { gate } = request.query_params
    await throughGate(gate)
    response.stream.end('second')
    keep(gate, 'done')
  },
  no_content: async (_request, response) => {
    response.status(204)
    response.close()
  },
  value: async (request) => ({ status_code: 203, body: { parsed: request.body } }),
  late: async (request, response) => {
    const { gate } = request.query_params
    keep(gate, 'waiting')
    await throughGate(gate)
    response.status(200)
    response.stream.end('late')
    keep(gate, 'done')
  },
}

async function keepCalling(data) {
  for (let number = 0; number < data.times; number++) {
    const payload = { ...data.payload, key: `${data.payload.key}-${number}` }
    plain.call({ ...data, payload }).then((outcome) => keep(data.key, { key: payload.key, ...outcome }))
    await sleep(data.every)
  }
}

async function echo(data) {
  return data
}

function route(method, id, parameters = '') {
  const config = { api_path: `/${name}/${id}${parameters}`, http_method: method }
  iii.registerTrigger({ type: 'http', function_id: `${name}::${id}`, config })
}

for (const [id, handler] of Object.entries(plain)) iii.registerFunction(`${name}::${id}`, handler)
for (const [id, handler] of Object.entries(http ? streaming : {})) {
  iii.registerFunction(`${name}::${id}`, http(handler))
  route('POST', id)
}
route('GET', 'answer', '/:id/parts/:part')
route('POST', 'answer')
route('GET', 'fail')
route('POST', 'visit')
// The last: when it can be called, the rest is there too.
iii.registerFunction(`${name}::echo`, echo, {
  description: 'Returns what it gets',
  metadata: { team: 'tests' },
  request_format: { type: 'object', title: 'Anything' },
})

for (const stop of ['SIGTERM', 'SIGINT']) {
  process.on(stop, async () => {
    await iii.shutdown()
    process.exit(0)
  })
}
