// The promises of Ottla as kafkajs (pure JavaScript, unmodified, from npm) sees them. ADDR=host:port says where the broker is.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import kafkajs from 'kafkajs'
import Snappy from 'kafkajs-snappy'
import LZ4 from 'kafkajs-lz4'

const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = kafkajs
CompressionCodecs[CompressionTypes.Snappy] = Snappy
CompressionCodecs[CompressionTypes.LZ4] = new LZ4().codec

const addr = process.env.ADDR ?? '127.0.0.1:9092'
const run = randomUUID().slice(0, 8)
const kafka = new Kafka({ clientId: 'check', brokers: [addr], logLevel: logLevel.NOTHING })
const admin = kafka.admin()
let passed = 0
let failed = 0

const check = async (name, story) => {
  try {
    await story()
    passed++
    console.log(`ok   ${name}`)
  } catch (error) {
    failed++
    console.log(`FAIL ${name}: ${error.message}`)
  }
}

const until = async (what, condition) => {
  const deadline = Date.now() + 40_000
  while (!condition()) {
    assert(Date.now() < deadline, `in 40 s not seen: ${what}`)
    await new Promise(done => setTimeout(done, 50))
  }
}

const topic = async (name, numPartitions, configEntries = []) => {
  const full = `node-${name}-${run}`
  await admin.createTopics({ topics: [{ topic: full, numPartitions, replicationFactor: 1, configEntries }] })
  return full
}

const readAll = async (name, count) => {
  const consumer = kafka.consumer({ groupId: `${name}-reader-${randomUUID()}` })
  const records = []
  await consumer.connect()
  await consumer.subscribe({ topic: name, fromBeginning: true })
  await consumer.run({ eachMessage: async ({ partition, message }) => { records.push({ partition, ...message }) } })
  try {
    await until(`${count} records of ${name}`, () => records.length >= count)
  } finally {
    await consumer.disconnect()
  }
  return records
}

const produce = async (options, work) => {
  const producer = kafka.producer(options)
  await producer.connect()
  try {
    return await work(producer)
  } finally {
    await producer.disconnect()
  }
}

await admin.connect()

await check('every_codec_comes_back_byte_for_byte', async () => {
  for (const codec of ['None', 'GZIP', 'Snappy', 'LZ4']) {
    const name = await topic(`codec-${codec}`, 3)
    const messages = Array.from({ length: 600 }, (_, i) => ({ key: `k${i % 37}`, value: `value ${i} `.repeat(i % 40), headers: { n: `${i}` } }))
    await produce({}, p => p.send({ topic: name, messages, compression: CompressionTypes[codec] }))
    const got = await readAll(name, 600)
    got.sort((a, b) => Number(a.headers.n) - Number(b.headers.n))
    assert.deepEqual(got.map(r => [`${r.key}`, `${r.value}`]), messages.map(m => [m.key, m.value]))
  }
})

await check('idempotent_producer_keeps_order_and_reports_offsets', async () => {
  const name = await topic('order', 1)
  await produce({ idempotent: true, maxInFlightRequests: 1 }, async p => {
    for (let i = 0; i < 200; i++) {
      const [report] = await p.send({ topic: name, acks: -1, messages: [{ value: `${i}` }] })
      assert.equal(Number(report.baseOffset), i)
    }
  })
  assert.deepEqual((await readAll(name, 200)).map(r => Number(r.value)), Array.from({ length: 200 }, (_, i) => i))
})

await check('tombstones_and_empty_values_differ', async () => {
  const name = await topic('null', 1)
  await produce({}, p => p.send({ topic: name, messages: [{ key: 'gone', value: null }, { key: 'empty', value: '' }] }))
  assert.deepEqual((await readAll(name, 2)).map(r => r.value?.length ?? null), [null, 0])
})

await check('a_group_of_two_shares_and_takes_over', async () => {
  const name = await topic('group', 4)
  const groupId = `node-group-${run}`
  const assigned = [[], []]
  const seen = []
  const members = [0, 1].map(i => {
    const consumer = kafka.consumer({ groupId, heartbeatInterval: 500, sessionTimeout: 10_000 })
    consumer.on(consumer.events.GROUP_JOIN, e => { assigned[i] = e.payload.memberAssignment[name] ?? [] })
    return consumer
  })
  const start = async i => {
    await members[i].connect()
    await members[i].subscribe({ topic: name, fromBeginning: true })
    await members[i].run({ eachMessage: async ({ message }) => { seen.push(`${message.value}`) } })
  }
  const send = prefix => produce({}, p => p.send({
    topic: name, messages: Array.from({ length: 400 }, (_, i) => ({ key: `${i}`, value: `${prefix}${i}` }))
  }))
  try {
    await Promise.all([start(0), start(1)])
    await until('two partitions each', () => assigned[0].length === 2 && assigned[1].length === 2)
    await send('a')
    await until('all read by the two', () => seen.length >= 400)
    await members[1].disconnect()
    await until('the one that stays takes over', () => assigned[0].length === 4)
    await send('b')
    await until('all read by the one', () => seen.length >= 800)
  } finally {
    await Promise.all(members.map(m => m.disconnect()))
  }
  assert.equal(seen.length, 800)
  assert.equal(new Set(seen).size, 800)
  const [{ partitions }] = await admin.fetchOffsets({ groupId, topics: [name] })
  assert.equal(partitions.reduce((sum, p) => sum + Number(p.offset), 0), 800)
})

await check('admin_tells_and_changes', async () => {
  const name = await topic('admin', 2, [{ name: 'retention.ms', value: '12345' }])
  const now = Date.now()
  await produce({}, p => p.send({ topic: name, messages: Array.from({ length: 10 }, (_, i) => ({ partition: 0, value: 'v', timestamp: `${now + i * 1000 - 100_000}` })) }))
  const { topics } = await admin.fetchTopicMetadata({ topics: [name] })
  assert.equal(topics[0].partitions.length, 2)
  const { resources } = await admin.describeConfigs({ includeSynonyms: false, resources: [{ type: 2, name, configNames: ['retention.ms'] }] })
  assert.equal(resources[0].configEntries[0].configValue, '12345')
  const byTime = await admin.fetchTopicOffsetsByTimestamp(name, now - 100_000 + 4500)
  assert.equal(byTime.find(p => p.partition === 0).offset, '5')
  await admin.deleteTopicRecords({ topic: name, partitions: [{ partition: 0, offset: '4' }] })
  assert.equal((await admin.fetchTopicOffsets(name)).find(p => p.partition === 0).low, '4')
  await admin.createPartitions({ topicPartitions: [{ topic: name, count: 5 }] })
  await admin.deleteTopics({ topics: [name] })
  assert(!(await admin.listTopics()).includes(name))
})

await admin.disconnect()
console.log(`${passed} passed, ${failed} failed`)
process.exit(failed === 0 ? 0 : 1)
