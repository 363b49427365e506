// A worker in Node: `npm install iii-sdk`, then `node worker.mjs`.
import { registerWorker } from 'iii-sdk'

const worker = registerWorker(process.env.III_URL ?? 'ws://localhost:49134')

worker.registerFunction('hello::count', async ({ names }) => ({ count: names.length }))
