// The whole walk by itself, checked: produce, read alone, stop and resume, share with a second consumer, take over.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'

// A topic of this run's own, named before the other modules read the name.
process.env.TOPIC ??= `clickstream-${randomUUID().slice(0, 8)}`
const { topic, kafka } = await import('./clicks.mjs')
const { ClickProducer } = await import('./producer.mjs')
const { ClickConsumer } = await import('./consumer.mjs')

const group = `${topic}-readers`
const seen = new Map()
const take = click => {
  assert(!seen.has(click.number), `click ${click.number} came twice`)
  seen.set(click.number, click)
}
const until = async (what, condition) => {
  const deadline = Date.now() + 60_000
  while (!condition()) {
    assert(Date.now() < deadline, `in a minute not seen: ${what}`)
    await new Promise(done => setTimeout(done, 50))
  }
}

const admin = kafka.admin()
await admin.connect()
await admin.createTopics({ topics: [{ topic, numPartitions: 4, replicationFactor: 1 }] })
await admin.disconnect()

const producer = new ClickProducer()
await producer.connect()
let sent = 0
const produce = async count => {
  const reports = []
  for (const end = sent + count; sent < end; sent++) producer.send(sent, (error, click) => reports.push(error ?? click))
  await producer.flush()
  assert.equal(reports.length, count)
  assert(reports.every(report => !(report instanceof Error)), `${reports.find(r => r instanceof Error)}`)
  console.log(`produced ${count} clicks, each with its delivery report`)
}

console.log('1. thirty clicks, read from the earliest by one consumer')
await produce(30)
const alice = new ClickConsumer('alice', group, take)
await alice.start()
await until('alice reads all thirty', () => seen.size === 30)
assert.equal(alice.partitions.length, 4)

console.log('2. she stops, thirty more come, another one resumes at the committed offsets')
await alice.stop()
await produce(30)
const bob = new ClickConsumer('bob', group, take)
await bob.start()
await until('bob reads the thirty new ones, and none of the old', () => seen.size === 60)

console.log('3. a second consumer joins: the two share the partitions')
const carol = new ClickConsumer('carol', group, take)
await carol.start()
await until('two partitions each', () => bob.partitions.length === 2 && carol.partitions.length === 2)
await produce(60)
await until('the two read everything', () => seen.size === 120)
assert.deepEqual(new Set([...seen.values()].slice(60).map(click => click.reader)), new Set(['bob', 'carol']))

console.log('4. one leaves, the other takes over')
await bob.stop()
await until('carol has all four partitions', () => carol.partitions.length === 4)
await produce(30)
await until('carol reads everything', () => seen.size === 150)
assert([...seen.values()].slice(120).every(click => click.reader === 'carol'))

console.log('5. and back again')
const dave = new ClickConsumer('dave', group, take)
await dave.start()
await until('two partitions each', () => dave.partitions.length === 2 && carol.partitions.length === 2)
await carol.stop()
await until('dave has all four partitions', () => dave.partitions.length === 4)
await produce(30)
await until('dave reads everything', () => seen.size === 180)
await dave.stop()
await producer.close()

const last = new Map()
for (const click of [...seen.values()].sort((a, b) => a.partition - b.partition || Number(a.offset) - Number(b.offset))) {
  assert(click.number > (last.get(click.user) ?? -1), `the clicks of ${click.user} are out of order`)
  last.set(click.user, click.number)
}
console.log(`${seen.size} clicks, each read once, each user's in order`)
