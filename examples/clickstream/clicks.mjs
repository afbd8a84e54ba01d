// What producer and consumer agree on: the broker, the topic, and what a click looks like.
import kafkajs from 'kafkajs'

export const topic = process.env.TOPIC ?? 'clickstream'
export const kafka = new kafkajs.Kafka({
  clientId: 'clickstream',
  brokers: [process.env.ADDR ?? '127.0.0.1:9092'],
  logLevel: kafkajs.logLevel.NOTHING
})

const elements = ['toggle', 'search-bar', 'start-button']
const users = ['ada', 'grace', 'linus', 'margaret', 'edsger', 'barbara']

// One click: the key is the user, so that one user's clicks stay in order in one partition.
export const click = number => ({
  key: users[number % users.length],
  value: JSON.stringify({ number, element: elements[number % elements.length], at: new Date().toISOString() })
})
