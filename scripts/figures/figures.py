#!/usr/bin/env python3
"""First figures: Ottla beside Apache Kafka, in interleaved rounds A B C C B A on this machine.

    scripts/figures/figures.py [--rounds N] [--only start,restart,produce,partitions,size] [--gb 10] [--json FILE]

Subjects: ottla (as it comes: an acknowledgement follows the sync), kafka-fsync (flush.messages=1, so the same promise) and
kafka (as it comes: an acknowledgement follows the page cache). Load: Kafka's own ProducerPerformance, one producer, acks=all,
linger.ms=5, batch.size=65536, records of 1,000 bytes, the same for all. CPU is user + system of the broker's process tree per
GB (10^9 bytes) of records. First acknowledgements are timed by a raw socket from the start of the process. Everything shares
one machine: ratios of neighbouring rounds hold, times less so. Prints a table of medians and ranges. Needs a JDK, Maven (which
fetches Kafka), and target/release/ottla (or OTTLA_BIN); `size` needs about four times --gb of disk under TMPDIR."""
import argparse
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
HOME = pathlib.Path(os.environ.get("CLIENTS_HOME", pathlib.Path.home() / ".cache/ottla-clients")) / "kafka"
TICKS = os.sysconf("SC_CLK_TCK")
RECORD_BYTES = 1000
IDLE_SECONDS = 5
UP_SECONDS_MAX = 300
# What Kafka's start script gives a broker.
KAFKA_JVM = ["-Xms1G", "-Xmx1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
             "-XX:+ExplicitGCInvokesConcurrent"]


def jars():
    if not (HOME / "fetched").exists():
        HOME.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mvn", "-q", "-B", "-f", HERE / "pom.xml", "dependency:copy-dependencies",
                        f"-DoutputDirectory={HOME}"], check=True)
        (HOME / "fetched").touch()
        (HOME / "log4j2.properties").write_text("rootLogger.level=OFF\n")
    return f"{HOME}/*"


def java(*words, options=("-Xmx512m",)):
    return ["java", *options, f"-Dlog4j2.configurationFile={HOME}/log4j2.properties", "-cp", jars(), *words]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def answers(port):
    """ApiVersions v0 is answered."""
    try:
        with socket.create_connection(("127.0.0.1", port), 0.5) as s:
            s.settimeout(5)
            s.sendall(struct.pack(">ihhih", 10, 18, 0, 7, -1))
            return len(s.recv(8)) == 8
    except OSError:
        return False


def produce_one(port, topic, partition=0, deadline=UP_SECONDS_MAX):
    """A produce of one record (v3, acks=-1) on a raw socket, repeated until it is acknowledged."""
    value = b"x"
    record = b"\x00\x00\x00\x01" + bytes([len(value) << 1]) + value + b"\x00"
    record = bytes([len(record) << 1]) + record
    body = struct.pack(">hiqqqhii", 0, 0, 0, 0, -1, -1, -1, 1) + record
    batch = struct.pack(">qiib", 0, 9 + len(body), -1, 2) + struct.pack(">I", crc32c(body)) + body
    name = topic.encode()
    request = (struct.pack(">hhih", 0, 3, 9, -1) + struct.pack(">hhii", -1, -1, 30000, 1)
               + struct.pack(">h", len(name)) + name + struct.pack(">iii", 1, partition, len(batch)) + batch)
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), 0.5) as s:
                s.settimeout(10)
                s.sendall(struct.pack(">i", len(request)) + request)
                answer = b""
                while len(answer) < 4 or len(answer) < 4 + struct.unpack(">i", answer[:4])[0]:
                    part = s.recv(4096)
                    if not part:
                        raise OSError("closed")
                    answer += part
                error = struct.unpack(">h", answer[4 + 4 + 4 + 2 + len(name) + 4 + 4:][:2])[0]
                if error == 0:
                    return
        except OSError:
            pass
        time.sleep(0.001)
    raise SystemExit("no acknowledgement in time")


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


class Subject:
    def __init__(self, name):
        self.name, self.port = name, free_port()
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix=f"figures-{name}-"))
        self.process = None
        if name != "ottla":
            self.format()

    def format(self):
        """Kafka wants its directory formatted before the first start; that is not counted as a part of the start."""
        controller = free_port()
        config = self.dir / "server.properties"
        config.write_text(f"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}
controller.listener.names=CONTROLLER
log.dirs={self.dir}/data
offsets.topic.replication.factor=1
{'log.flush.interval.messages=1' if self.name == 'kafka-fsync' else ''}
""")
        subprocess.run(java("kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", config), check=True,
                       stdout=subprocess.DEVNULL)

    def command(self):
        if self.name == "ottla":
            binary = os.environ.get("OTTLA_BIN", ROOT / "target/release/ottla")
            return [binary, "serve", "--data", self.dir / "data", "--listen", f"127.0.0.1:{self.port}", "--admin", "127.0.0.1:0"]
        return java("kafka.Kafka", self.dir / "server.properties", options=KAFKA_JVM)

    def start(self):
        log = open(self.dir / "log", "a")
        began = time.monotonic()
        self.process = subprocess.Popen([str(word) for word in self.command()], stdout=log, stderr=log)
        return began

    def up(self):
        began = self.start()
        while not answers(self.port):
            assert self.process.poll() is None, (self.dir / "log").read_text()[-2000:]
            assert time.monotonic() - began < UP_SECONDS_MAX, "does not come up"
            time.sleep(0.002)

    def cpu(self):
        """User and system seconds of the process and all below it, those included that have ended."""
        total, tree = 0, {self.process.pid}
        for entry in sorted((int(name) for name in os.listdir("/proc") if name.isdigit())):
            try:
                fields = pathlib.Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if entry in tree or int(fields[1]) in tree:
                tree.add(entry)
                total += sum(int(ticks) for ticks in fields[11:15])
        return total / TICKS

    def memory_mib(self):
        return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{self.process.pid}/status").read_text())[1]) / 1024

    def topic(self, name, partitions):
        subprocess.run(java("org.apache.kafka.tools.TopicCommand", "--bootstrap-server", f"127.0.0.1:{self.port}", "--create",
                            "--topic", name, "--partitions", str(partitions), "--replication-factor", "1"),
                       check=True, stdout=subprocess.DEVNULL)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        self.process.wait(UP_SECONDS_MAX)

    def to_first_ack(self, topic, partition):
        """Milliseconds from the start of the process to the acknowledgement of a record."""
        began = self.start()
        produce_one(self.port, topic, partition)
        return (time.monotonic() - began) * 1000

    def down(self):
        if self.process and self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)


def interleaved(names, rounds):
    """A B C C B A …: what disturbs the machine for a while disturbs all of them."""
    for number in range(rounds):
        yield from names if number % 2 == 0 else names[::-1]


def start_figures(results, rounds):
    for name in interleaved(["ottla", "kafka"], rounds):
        subject = Subject(name)
        try:
            began = subject.start()
            produce_one_created(subject, began)
            note(results, "start on an empty directory → first acknowledgement, ms", name, (time.monotonic() - began) * 1000)
            time.sleep(IDLE_SECONDS)
            note(results, "idle memory, MiB resident", name, subject.memory_mib())
        finally:
            subject.down()


def produce_one_created(subject, began):
    """First acknowledgement on an empty directory: the topic is made by a Metadata request, as any client does."""
    name = b"first"
    request = struct.pack(">hhih", 3, 4, 1, -1) + struct.pack(">ih", 1, len(name)) + name + b"\x01"
    while time.monotonic() - began < UP_SECONDS_MAX:
        try:
            with socket.create_connection(("127.0.0.1", subject.port), 0.5) as s:
                s.settimeout(5)
                s.sendall(struct.pack(">i", len(request)) + request)
                if s.recv(4096):
                    break
        except OSError:
            time.sleep(0.001)
    produce_one(subject.port, "first")


def restart_figures(results, rounds, what, partitions, records, reload_records):
    """The same directory started again and again: after SIGTERM, and after kill -9 behind a load."""
    subjects = {name: Subject(name) for name in ("ottla", "kafka")}
    try:
        for subject in subjects.values():
            subject.up()
            subject.topic("many", partitions)
            # Loading 1,000 partitions of Kafka right after they were made was seen to hang until the request's timeout.
            time.sleep(IDLE_SECONDS)
            perf(subject, "many", records)
            subject.stop()
        for name in interleaved(list(subjects), rounds):
            subject = subjects[name]
            os.sync()
            note(results, f"{what}: SIGTERM, restart → first acknowledgement, ms", name,
                 subject.to_first_ack("many", partitions - 1))
            perf(subject, "many", reload_records)
            subject.kill()
            note(results, f"{what}: kill -9 right after load, restart → first acknowledgement, ms", name,
                 subject.to_first_ack("many", partitions - 1))
            subject.stop()
    finally:
        for subject in subjects.values():
            subject.down()


def perf(subject, topic, records):
    """Kafka's own ProducerPerformance, the same for all. Its MB/sec are MiB; ours are 10^6 bytes."""
    before = subject.cpu()
    out = subprocess.run(java("org.apache.kafka.tools.ProducerPerformance", "--topic", topic, "--num-records", str(records),
                              "--record-size", str(RECORD_BYTES), "--throughput", "-1", "--producer-props",
                              f"bootstrap.servers=127.0.0.1:{subject.port}", "acks=all", "linger.ms=5", "batch.size=65536",
                              # A broker that is slow is a figure, not a failure.
                              "delivery.timeout.ms=600000"),
                         check=True, capture_output=True, text=True).stdout
    line = out.strip().splitlines()[-1]
    assert line.startswith(f"{records} records sent"), out
    return {"MB/s": float(re.search(r"\(([\d.]+) MB/sec\)", line)[1]) * 1.048576,
            "CPU-s per GB": (subject.cpu() - before) / (records * RECORD_BYTES / 1e9),
            "p99 ms": float(re.search(r"([\d.]+) ms 99th", line)[1])}


def produce_figures(results, ratios, rounds, records):
    for partitions in (1, 100):
        subjects = {name: Subject(name) for name in ("ottla", "kafka-fsync", "kafka")}
        runs = {name: [] for name in subjects}
        try:
            for subject in subjects.values():
                subject.up()
                subject.topic("figures", partitions)
                perf(subject, "figures", records)  # until what a JVM compiles is compiled
            for name in interleaved(list(subjects), rounds):
                # What one subject left in the page cache is not written at the next one's cost.
                os.sync()
                run = perf(subjects[name], "figures", records)
                runs[name].append(run)
                for key, value in run.items():
                    note(results, f"produce, {partitions} partition{'s' * (partitions > 1)}: {key}", name, value)
        finally:
            for subject in subjects.values():
                subject.down()
        for other in ("kafka-fsync", "kafka"):
            for key in ("MB/s", "CPU-s per GB"):
                for a, b in zip(runs["ottla"], runs[other]):
                    note(ratios, f"produce, {partitions} partition{'s' * (partitions > 1)}: {key}", other, a[key] / b[key])


def partition_figures(results, rounds, partitions):
    """What an idle partition costs: resident memory with 0 and with many of them, started anew for both."""
    for name in interleaved(["ottla", "kafka"], rounds):
        subject = Subject(name)
        try:
            subject.up()
            subject.stop()
            subject.up()
            time.sleep(IDLE_SECONDS)
            without = subject.memory_mib()
            for number in range(partitions // 1000):
                subject.topic(f"idle-{number}", 1000)
            time.sleep(IDLE_SECONDS)
            note(results, f"{partitions:,} idle partitions made: KiB each", name, (subject.memory_mib() - without) * 1024 / partitions)
            subject.stop()
            subject.up()
            time.sleep(IDLE_SECONDS)
            note(results, f"{partitions:,} idle partitions after a restart: KiB each", name, (subject.memory_mib() - without) * 1024 / partitions)
        finally:
            subject.down()


def note(table, what, name, value):
    table.setdefault(what, {}).setdefault(name, []).append(value)
    print(f"  {what} · {name}: {value:.3g}   (load {os.getloadavg()[0]:.1f})", file=sys.stderr, flush=True)


def shown(values):
    def digits(value):
        return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
    return f"{digits(statistics.median(values))} ({digits(min(values))}–{digits(max(values))})"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=6)
    arguments.add_argument("--records", type=int, default=300_000, help="of 1,000 bytes, per run of the produce rounds")
    arguments.add_argument("--gb", type=float, default=10, help="how long the log of `size` is")
    arguments.add_argument("--partitions", type=int, default=10_000, help="idle ones, for `partitions`")
    arguments.add_argument("--only", default="start,restart,produce,partitions,size")
    arguments.add_argument("--json", help="every single value, to a file")
    options = arguments.parse_args()
    only = options.only.split(",")
    unknown = set(only) - {"start", "restart", "produce", "partitions", "size"}
    assert not unknown, f"no such part: {unknown}"
    results, ratios = {}, {}
    if "start" in only:
        start_figures(results, options.rounds)
    if "restart" in only:
        restart_figures(results, options.rounds, "1,000 partitions", 1000, 100_000, 50_000)
    if "produce" in only:
        produce_figures(results, ratios, options.rounds, options.records)
    if "partitions" in only:
        partition_figures(results, 2, options.partitions)
    if "size" in only:
        restart_figures(results, 2, f"{options.gb:g} GB of log", 100, int(options.gb * 1e9 / RECORD_BYTES), 100_000)
    print("| median (range) | ottla | kafka-fsync | kafka |\n|---|---|---|---|")
    for what, subjects in results.items():
        print("| " + " | ".join([what, *(shown(subjects[name]) if name in subjects else "–" for name in ("ottla", "kafka-fsync", "kafka"))]) + " |")
    for what, subjects in ratios.items():
        print(f"| {what}, ottla ÷ neighbour | 1 | " + " | ".join(shown(subjects[name]) for name in ("kafka-fsync", "kafka")) + " |")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps({"results": results, "ratios": ratios}, indent=1))


if __name__ == "__main__":
    sys.exit(main())
