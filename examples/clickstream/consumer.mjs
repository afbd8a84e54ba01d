// node consumer.mjs [NAME [GROUP]]: a member of the group; reads clicks until Ctrl-C. Starts at the earliest click the first
// time the group is seen, and at the committed offset afterwards. Start it twice and the two share the partitions.
import { pathToFileURL } from 'node:url'
import { kafka, topic } from './clicks.mjs'

export class ClickConsumer {
  partitions = []
  #consumer

  constructor(name, groupId, onClick) {
    this.name = name
    this.onClick = onClick
    this.#consumer = kafka.consumer({ groupId, sessionTimeout: 10_000, heartbeatInterval: 500, rebalanceTimeout: 5_000 })
    this.#consumer.on(this.#consumer.events.GROUP_JOIN, event => {
      this.partitions = event.payload.memberAssignment[topic] ?? []
      console.log(`${name} now reads partitions [${this.partitions.join(', ')}]`)
    })
  }

  async start() {
    await this.#consumer.connect()
    await this.#consumer.subscribe({ topic, fromBeginning: true })
    await this.#consumer.run({
      eachMessage: async ({ partition, message }) => this.onClick({
        reader: this.name, partition, offset: message.offset, user: `${message.key}`, ...JSON.parse(`${message.value}`)
      })
    })
  }

  // Commits what was read and leaves the group, so that the others take over at once.
  async stop() {
    await this.#consumer.disconnect()
    this.partitions = []
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [name = `consumer-${process.pid}`, group = 'clickstream-readers'] = process.argv.slice(2)
  const consumer = new ClickConsumer(name, group, click =>
    console.log(`${name}: ${click.user} clicked ${click.element} (#${click.number}) [partition ${click.partition}, offset ${click.offset}]`))
  process.once('SIGINT', () => consumer.stop().then(() => process.exit(0)))
  await consumer.start()
}
