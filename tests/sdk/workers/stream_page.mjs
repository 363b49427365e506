// A page that shows a group and an item of a stream with the published hooks for React: ?engine=ADDRESS.
// Each state that it comes to is said on the console, which the browser writes into its log.

import { createElement, useEffect } from 'react'
import { createRoot } from 'react-dom/client'
import { MotiaStreamProvider, useStreamEventHandler, useStreamGroup, useStreamItem } from '@motiadev/stream-client-react'

const say = (what) => console.log(JSON.stringify(what))

function Room() {
  const room = useStreamGroup({ streamName: 'chat', groupId: 'r1' })
  const message = useStreamItem({ streamName: 'chat', groupId: 'r1', id: 'm1' })
  useStreamEventHandler({ event: room.event, type: 'typing', listener: (data) => say({ heard: data }) }, [])
  useStreamEventHandler({ event: message.event, type: 'seen', listener: (data) => say({ seen: data }) }, [])
  useEffect(() => say({ group: room.data }), [room.data])
  useEffect(() => say({ item: message.data }), [message.data])
  return null
}

const address = new URLSearchParams(location.search).get('engine')
const root = createRoot(document.getElementById('root'))
root.render(createElement(MotiaStreamProvider, { address }, createElement(Room)))
