"""The promises of Ottla as kafka-python (pure Python, unmodified, from PyPI) sees them. ADDR=host:port says where the broker is."""
import os
import sys
import threading
import time
import uuid

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError, MessageSizeTooLargeError, TopicAlreadyExistsError

ADDR = os.environ.get("ADDR", "127.0.0.1:9092")
RUN = uuid.uuid4().hex[:8]
passed, failed = 0, 0


def check(story):
    global passed, failed
    try:
        story()
        passed += 1
        print(f"ok   {story.__name__}", flush=True)
    except Exception as error:  # every story reports, none hides the next
        failed += 1
        print(f"FAIL {story.__name__}: {type(error).__name__}: {error}", flush=True)


def topic(name, partitions=3, **configs):
    admin = KafkaAdminClient(bootstrap_servers=ADDR)
    full = f"py-{name}-{RUN}"
    admin.create_topics([NewTopic(full, partitions, 1, topic_configs=configs)])
    admin.close()
    return full


def subscribed(name, **settings):
    """Subscribes once the client has bootstrapped: kafka-python 3.0.12 loses a subscription that meets its first metadata answer,
    and then sleeps for five minutes. A broker that answers within a millisecond makes that likely."""
    consumer = KafkaConsumer(bootstrap_servers=ADDR, **settings)
    time.sleep(0.5)
    consumer.subscribe([name])
    return consumer


def read_all(name, partitions=3):
    consumer = KafkaConsumer(bootstrap_servers=ADDR, auto_offset_reset="earliest", group_id=None)
    parts = [TopicPartition(name, p) for p in range(partitions)]
    consumer.assign(parts)
    consumer.seek_to_beginning(*parts)
    ends = consumer.end_offsets(parts)
    out, deadline = [], time.time() + 30
    while any(consumer.position(p) < ends[p] for p in parts):
        assert time.time() < deadline, f"read {len(out)} records, then nothing more"
        for records in consumer.poll(timeout_ms=200).values():
            out.extend(records)
    consumer.close()
    return out


def every_codec_comes_back_byte_for_byte():
    for codec in (None, "gzip", "snappy", "lz4", "zstd"):
        name = topic(f"codec-{codec}")
        producer = KafkaProducer(bootstrap_servers=ADDR, compression_type=codec, acks="all", linger_ms=5)
        sent = {}
        for i in range(600):
            key, value = f"k{i % 37}".encode(), (f"value {i} ".encode() * (i % 40))
            sent[i] = (key, value)
            producer.send(name, key=key, value=value, headers=[("n", str(i).encode()), ("empty", b"")])
        producer.flush(timeout=30)
        producer.close()
        got = {int(dict(r.headers)["n"]): (r.key, r.value) for r in read_all(name)}
        assert got == sent, f"{codec}: {len(got)} of {len(sent)} came back"


def idempotent_producer_keeps_order_and_reports_offsets():
    name = topic("idempotent", 1)
    producer = KafkaProducer(bootstrap_servers=ADDR, enable_idempotence=True, acks="all", linger_ms=1)
    reports = [producer.send(name, value=str(i).encode()) for i in range(2000)]
    producer.flush(timeout=30)
    assert [r.get(10).offset for r in reports] == list(range(2000))
    producer.close()
    assert [int(r.value) for r in read_all(name, 1)] == list(range(2000))


def tombstones_and_empty_values_differ():
    name = topic("null", 1)
    producer = KafkaProducer(bootstrap_servers=ADDR)
    producer.send(name, key=b"gone", value=None)
    producer.send(name, key=b"empty", value=b"")
    producer.flush(timeout=10)
    producer.close()
    assert [r.value for r in read_all(name, 1)] == [None, b""]


def a_group_of_two_shares_and_takes_over():
    name, group = topic("group", 4), f"py-group-{RUN}"
    seen, lock, stops, assigned = [], threading.Lock(), [threading.Event(), threading.Event()], [set(), set()]

    def member(i):
        consumer = subscribed(name, group_id=group, auto_offset_reset="earliest",
                              enable_auto_commit=False, session_timeout_ms=6000, heartbeat_interval_ms=500)
        while not stops[i].is_set():
            polled = consumer.poll(timeout_ms=100)
            assigned[i] = consumer.assignment()
            for records in polled.values():
                with lock:
                    seen.extend(r.value for r in records)
            if polled:
                consumer.commit()
        assigned[i] = set()
        consumer.close()

    def until(what, condition):
        deadline = time.time() + 40
        while not condition():
            assert time.time() < deadline, what
            time.sleep(0.05)

    threads = [threading.Thread(target=member, args=(i,), daemon=True) for i in (0, 1)]
    producer = KafkaProducer(bootstrap_servers=ADDR)
    try:
        for t in threads:
            t.start()
        until("both members get two partitions", lambda: [len(a) for a in assigned] == [2, 2])
        for i in range(400):
            producer.send(name, key=str(i).encode(), value=f"a{i}".encode())
        producer.flush(timeout=10)
        until("the two together read everything", lambda: len(seen) == 400)
        stops[1].set()
        until("the one that stays takes over", lambda: len(assigned[0]) == 4)
        for i in range(400):
            producer.send(name, key=str(i).encode(), value=f"b{i}".encode())
        producer.flush(timeout=10)
        until("the one that stays reads everything", lambda: len(seen) == 800)
        assert len(set(seen)) == 800, "nothing twice"
    finally:
        for s in stops:
            s.set()
        producer.close()
    for t in threads:
        t.join(20)
    consumer = subscribed(name, group_id=group, auto_offset_reset="earliest")
    late = [r for _ in range(10) for rs in consumer.poll(timeout_ms=200).values() for r in rs]
    consumer.close()
    assert late == [], f"a later member resumes at the committed offsets, yet read {len(late)}"


def offsets_are_found_by_time():
    name = topic("times", 1)
    producer = KafkaProducer(bootstrap_servers=ADDR)
    now = int(time.time() * 1000) - 100_000
    for i in range(100):
        producer.send(name, value=b"t", timestamp_ms=now + i * 1000)
    producer.flush(timeout=10)
    producer.close()
    consumer = KafkaConsumer(bootstrap_servers=ADDR)
    part = TopicPartition(name, 0)
    found = consumer.offsets_for_times({part: now + 41_500})[part]
    assert (found.offset, found.timestamp) == (42, now + 42_000), found
    assert consumer.offsets_for_times({part: now + 10_000_000})[part] is None
    assert consumer.beginning_offsets([part])[part] == 0 and consumer.end_offsets([part])[part] == 100
    consumer.close()


def errors_are_kafkas_own():
    name = topic("errors", 1, **{"max.message.bytes": "2000"})
    try:
        topic("errors", 1)
        raise AssertionError("a topic was created twice")
    except TopicAlreadyExistsError:
        pass
    producer = KafkaProducer(bootstrap_servers=ADDR, retries=0)
    try:
        producer.send(name, value=os.urandom(5000)).get(10)
        raise AssertionError("a record above max.message.bytes was taken")
    except MessageSizeTooLargeError:
        pass
    producer.send(name, value=b"small").get(10)
    producer.close()


if __name__ == "__main__":
    for story in (every_codec_comes_back_byte_for_byte, idempotent_producer_keeps_order_and_reports_offsets,
                  tombstones_and_empty_values_differ, a_group_of_two_shares_and_takes_over,
                  offsets_are_found_by_time, errors_are_kafkas_own):
        check(story)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
