// The interface of iii-sdk 0.22, on which worker.mjs is written, whatever version is installed.
// What a version cannot do is missing here, or dropped: tests/sdk/npm.py says what that is.

import * as sdk from 'iii-sdk'

const helpers = await import('iii-sdk/helpers').catch(() => null) // from 0.22 on
const early = 'init' in sdk // before 0.9

export const http = helpers ? (await import('@iii-dev/helpers/http')).http : sdk.http

export const Logger = helpers ? (await import('@iii-dev/helpers/observability')).Logger : sdk.Logger

export const createChannel = helpers ? helpers.createChannel : (iii) => iii.createChannel()

export const { TriggerAction } = sdk // from 0.9 on

export const createStream = helpers ? helpers.createStream : (iii, name, stream) => iii.createStream(name, stream)

export function connect(url, name) {
  if (early) return earlyClient(sdk.init(url, { workerName: name }))
  return sdk.registerWorker(url, { workerName: name, workerDescription: `${name} under test` })
}

function earlyClient(iii) {
  return {
    ...iii, // its methods are members
    registerFunction: (id, handler, options) => iii.registerFunction({ id, ...options }, handler),
    trigger: async ({ function_id, payload, action, timeoutMs }) => {
      if (action) return iii.triggerVoid(function_id, payload)
      try {
        return await iii.trigger(function_id, payload, timeoutMs)
      } catch (error) {
        const { code, message } = error instanceof Error ? { code: 'TIMEOUT', message: error.message } : error
        throw Object.assign(new Error(`${code}: ${message}`), { code })
      }
    },
  }
}
