// node producer.mjs [COUNT [FIRST]]: sends COUNT clicks, prints a delivery report for each, and flushes before it leaves.
import { pathToFileURL } from 'node:url'
import kafkajs from 'kafkajs'
import { click, kafka, topic } from './clicks.mjs'

export class ClickProducer {
  #producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1, createPartitioner: kafkajs.Partitioners.DefaultPartitioner })
  #outstanding = new Set()

  connect = () => this.#producer.connect()

  // Returns at once; `report` is called when the broker has the click on disk, or with the error when it has not.
  send(number, report) {
    const message = click(number)
    const sent = this.#producer.send({ topic, acks: -1, messages: [message] })
      .then(([{ partition, baseOffset }]) => report(null, { ...message, partition, offset: baseOffset }), report)
    this.#outstanding.add(sent)
    sent.finally(() => this.#outstanding.delete(sent))
  }

  // Waits until every click has its delivery report.
  async flush() {
    await Promise.all(this.#outstanding)
  }

  async close() {
    await this.flush()
    await this.#producer.disconnect()
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [count = 30, first = 0] = process.argv.slice(2).map(Number)
  const producer = new ClickProducer()
  await producer.connect()
  for (let number = first; number < first + count; number++) {
    producer.send(number, (error, click) => console.log(error
      ? `not delivered: ${error.message}`
      : `delivered ${click.key}: ${click.value} to partition ${click.partition} at offset ${click.offset}`))
  }
  await producer.close()
}
