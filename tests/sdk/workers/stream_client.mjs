// Follows a group and an item of a stream with the published client: stream_client.mjs ADDRESS [PROTOCOL ...].
// Each state that it comes to is a line of JSON.

import { Stream } from '@motiadev/stream-client-node'

const [address, ...protocols] = process.argv.slice(2)
const say = (what) => console.log(JSON.stringify(what))
const stream = new Stream(address, protocols.length ? { protocols } : undefined)

const group = stream.subscribeGroup('chat', 'r1')
group.addChangeListener((state) => say({ group: state }))
group.onEvent('typing', (data) => say({ heard: data }))
const item = stream.subscribeItem('chat', 'r1', 'm1')
item.addChangeListener((state) => say({ item: state }))
item.onEvent('seen', (data) => say({ seen: data }))
