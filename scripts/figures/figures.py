#!/usr/bin/env python3
"""First figures: Ottla beside Apache Kafka, in interleaved rounds A B C C B A on this machine.

    scripts/figures/figures.py [--rounds N] [--only start,restart,produce] [--json FILE]

Subjects: ottla (as it comes: every acknowledgement synced), kafka (as it comes: acknowledged from the page cache), and
kafka-fsync (flush.messages=1). Load: Kafka's own ProducerPerformance, acks=all, 1 KB records, the same for all. CPU is that of the
server process (user + system) per GB of record bytes. Throughput and times hold only as ratios of neighbouring rounds; the
median and the range are printed. Needs a JDK, Maven, and target/release/ottla (or OTTLA_BIN)."""
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


def jars():
    if not (HOME / "fetched").exists():
        HOME.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mvn", "-q", "-B", "-f", HERE / "pom.xml", "dependency:copy-dependencies",
                        f"-DoutputDirectory={HOME}"], check=True)
        (HOME / "fetched").touch()
        (HOME / "log4j2.properties").write_text("rootLogger.level=OFF\n")
    return f"{HOME}/*"


def java(*words):
    return ["java", "-Xmx1g", f"-Dlog4j2.configurationFile={HOME}/log4j2.properties", "-cp", jars(), *words]


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


def produce_one(port, topic, partition=0, deadline=60):
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

    def command(self):
        if self.name == "ottla":
            binary = os.environ.get("OTTLA_BIN", ROOT / "target/release/ottla")
            return [binary, "serve", "--data", self.dir / "data", "--listen", f"127.0.0.1:{self.port}", "--admin", "127.0.0.1:0"]
        config = self.dir / "server.properties"
        if not config.exists():
            controller = free_port()
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
        return java("kafka.Kafka", config)

    def start(self):
        log = open(self.dir / "log", "a")
        began = time.monotonic()
        self.process = subprocess.Popen([str(word) for word in self.command()], stdout=log, stderr=log)
        return began

    def up(self):
        began = self.start()
        while not answers(self.port):
            assert self.process.poll() is None, (self.dir / "log").read_text()[-2000:]
            assert time.monotonic() - began < 60, "does not come up"
            time.sleep(0.002)

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory_mib(self):
        return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{self.process.pid}/status").read_text())[1]) / 1024

    def topic(self, name, partitions):
        subprocess.run(java("org.apache.kafka.tools.TopicCommand", "--bootstrap-server", f"127.0.0.1:{self.port}", "--create",
                            "--topic", name, "--partitions", str(partitions), "--replication-factor", "1"),
                       check=True, stdout=subprocess.DEVNULL)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def down(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)


def start_figures():
    subject = Subject("ottla")
    try:
        began = subject.start()
        produce_one_created(subject, began)
        first_ack = time.monotonic() - began
        time.sleep(3)
        return {"start_to_first_ack_ms": first_ack * 1000, "idle_memory_mib": subject.memory_mib()}
    finally:
        subject.down()


def produce_one_created(subject, began):
    """First acknowledgement on an empty directory: the topic is made by a Metadata request, as any client does."""
    name = b"first"
    request = struct.pack(">hhih", 3, 4, 1, -1) + struct.pack(">ih", 1, len(name)) + name + b"\x01"
    while time.monotonic() - began < 60:
        try:
            with socket.create_connection(("127.0.0.1", subject.port), 0.5) as s:
                s.settimeout(5)
                s.sendall(struct.pack(">i", len(request)) + request)
                if s.recv(4096):
                    break
        except OSError:
            time.sleep(0.001)
    produce_one(subject.port, "first")


def restart_figures():
    subject = Subject("ottla")
    try:
        subject.up()
        subject.topic("many", 1000)
        perf(subject, "many", 200_000)
        subject.kill()
        began = subject.start()
        produce_one(subject.port, "many", 999)
        return {"kill_to_first_ack_1000_partitions_ms": (time.monotonic() - began) * 1000}
    finally:
        subject.down()


def perf(subject, topic, records):
    before = subject.cpu()
    out = subprocess.run(java("org.apache.kafka.tools.ProducerPerformance", "--topic", topic, "--num-records", str(records),
                              "--record-size", str(RECORD_BYTES), "--throughput", "-1", "--producer-props",
                              f"bootstrap.servers=127.0.0.1:{subject.port}", "acks=all", "linger.ms=5", "batch.size=65536"),
                         check=True, capture_output=True, text=True).stdout
    line = out.strip().splitlines()[-1]
    assert line.startswith(f"{records} records sent"), out
    return {"mb_per_s": float(re.search(r"\(([\d.]+) MB/sec\)", line)[1]),
            "cpu_s_per_gb": (subject.cpu() - before) / (records * RECORD_BYTES / 1e9),
            "p99_ms": float(re.search(r"([\d.]+) ms 99th", line)[1])}


def produce_figures(rounds, records):
    results = {}
    for partitions in (1, 100):
        subjects = [Subject(name) for name in ("ottla", "kafka", "kafka-fsync")]
        try:
            for subject in subjects:
                subject.up()
                subject.topic("figures", partitions)
                perf(subject, "figures", 20_000)  # warm both sides
            for round_number in range(rounds):
                order = subjects if round_number % 2 == 0 else subjects[::-1]
                for subject in order:
                    count = records // 10 if subject.name == "kafka-fsync" else records
                    results.setdefault((partitions, subject.name), []).append(perf(subject, "figures", count))
        finally:
            for subject in subjects:
                subject.down()
    table = {}
    for (partitions, name), runs in results.items():
        table[f"{partitions} partitions, {name}"] = {
            key: {"median": statistics.median(run[key] for run in runs), "range": [min(run[key] for run in runs), max(run[key] for run in runs)]}
            for key in runs[0]}
    for partitions in (1, 100):
        for other in ("kafka", "kafka-fsync"):
            pairs = list(zip(results[(partitions, "ottla")], results[(partitions, other)]))
            table[f"{partitions} partitions, ottla : {other}"] = {
                key: {"median": statistics.median(a[key] / b[key] for a, b in pairs if b[key]), "range": [min(a[key] / b[key] for a, b in pairs if b[key]), max(a[key] / b[key] for a, b in pairs if b[key])]}
                for key in ("mb_per_s", "cpu_s_per_gb")}
    return table


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=6)
    arguments.add_argument("--records", type=int, default=200_000)
    arguments.add_argument("--only", default="start,restart,produce")
    arguments.add_argument("--json")
    options = arguments.parse_args()
    figures = {}
    if "start" in options.only.split(","):
        runs = [start_figures() for _ in range(5)]
        figures["start"] = {key: {"median": statistics.median(run[key] for run in runs), "range": [min(run[key] for run in runs), max(run[key] for run in runs)]} for key in runs[0]}
    if "restart" in options.only.split(","):
        runs = [restart_figures() for _ in range(3)]
        figures["restart"] = {key: {"median": statistics.median(run[key] for run in runs), "range": [min(run[key] for run in runs), max(run[key] for run in runs)]} for key in runs[0]}
    if "produce" in options.only.split(","):
        figures.update(produce_figures(options.rounds, options.records))
    for what, values in figures.items():
        for key, value in values.items():
            print(f"{what:45} {key:40} {value['median']:10.2f}  ({value['range'][0]:.2f} – {value['range'][1]:.2f})")
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    sys.exit(main())
