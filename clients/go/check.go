// The promises of Ottla as franz-go (pure Go, unmodified) sees them. ADDR=host:port says where the broker is.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var (
	run            = strconv.FormatInt(time.Now().UnixNano()%1e9, 36)
	passed, failed int
)

func addr() string {
	if a := os.Getenv("ADDR"); a != "" {
		return a
	}
	return "127.0.0.1:9092"
}

func check(name string, story func(ctx context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	if err := story(ctx); err != nil {
		failed++
		fmt.Printf("FAIL %s: %v\n", name, err)
		return
	}
	passed++
	fmt.Printf("ok   %s\n", name)
}

func client(opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(addr())}, opts...)...)
}

func admin() (*kadm.Client, error) {
	c, err := client()
	if err != nil {
		return nil, err
	}
	return kadm.NewClient(c), nil
}

func topic(ctx context.Context, name string, partitions int32, configs map[string]*string) (string, error) {
	a, err := admin()
	if err != nil {
		return "", err
	}
	defer a.Close()
	full := "go-" + name + "-" + run
	_, err = a.CreateTopic(ctx, partitions, 1, configs, full)
	return full, err
}

func readAll(ctx context.Context, name string, count int) ([]*kgo.Record, error) {
	c, err := client(kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var out []*kgo.Record
	for len(out) < count {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("after %d of %d records: %w", len(out), count, err)
		}
		out = append(out, fetches.Records()...)
	}
	return out, nil
}

func everyCodec(ctx context.Context) error {
	codecs := map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	for label, codec := range codecs {
		name, err := topic(ctx, "codec-"+label, 3, nil)
		if err != nil {
			return err
		}
		c, err := client(kgo.ProducerBatchCompression(codec))
		if err != nil {
			return err
		}
		value := func(i int) []byte { return []byte(strings.Repeat(fmt.Sprintf("value %d ", i), i%40)) }
		var records []*kgo.Record
		for i := range 900 {
			records = append(records, &kgo.Record{Topic: name, Key: []byte(fmt.Sprintf("k%d", i%37)), Value: value(i),
				Headers: []kgo.RecordHeader{{Key: "n", Value: []byte(strconv.Itoa(i))}}})
		}
		err = c.ProduceSync(ctx, records...).FirstErr()
		c.Close()
		if err != nil {
			return err
		}
		got, err := readAll(ctx, name, 900)
		if err != nil {
			return err
		}
		seen := map[int]bool{}
		for _, r := range got {
			i, _ := strconv.Atoi(string(r.Headers[0].Value))
			if seen[i] || !bytes.Equal(r.Value, value(i)) || string(r.Key) != fmt.Sprintf("k%d", i%37) {
				return fmt.Errorf("%s: record %d differs or came twice", label, i)
			}
			seen[i] = true
		}
	}
	return nil
}

func idempotentOrder(ctx context.Context) error {
	name, err := topic(ctx, "order", 1, nil)
	if err != nil {
		return err
	}
	c, err := client(kgo.ProducerBatchMaxBytes(1024))
	if err != nil {
		return err
	}
	defer c.Close()
	var wrong sync.Map
	for i := range 3000 {
		c.Produce(ctx, &kgo.Record{Topic: name, Value: []byte(strconv.Itoa(i))}, func(r *kgo.Record, err error) {
			if err != nil || r.Offset != int64(i) {
				wrong.Store(i, fmt.Sprint(r.Offset, err))
			}
		})
	}
	if err := c.Flush(ctx); err != nil {
		return err
	}
	wrong.Range(func(i, report any) bool { err = fmt.Errorf("delivery report of %v: %v", i, report); return false })
	if err != nil {
		return err
	}
	got, err := readAll(ctx, name, 3000)
	for i, r := range got {
		if string(r.Value) != strconv.Itoa(i) || r.Offset != int64(i) {
			return fmt.Errorf("offset %d holds %q", r.Offset, r.Value)
		}
	}
	return err
}

type member struct {
	cancel context.CancelFunc
	done   chan error
}

// groupOfTwo: two members share four partitions, one leaves, the other takes over; nothing is lost, nothing comes twice.
func groupOfTwo(balancer kgo.GroupBalancer) func(context.Context) error {
	return func(ctx context.Context) error {
		name, err := topic(ctx, "group-"+balancer.ProtocolName(), 4, nil)
		if err != nil {
			return err
		}
		group := "go-group-" + balancer.ProtocolName() + run
		var mu sync.Mutex
		seen, assigned := map[string]int{}, [2]int{}
		start := func(i int) (*member, error) {
			c, err := client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(name), kgo.Balancers(balancer), kgo.DisableAutoCommit(),
				kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(300*time.Millisecond),
				kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, a map[string][]int32) {
					mu.Lock()
					assigned[i] += len(a[name])
					mu.Unlock()
				}),
				kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, a map[string][]int32) {
					mu.Lock()
					assigned[i] -= len(a[name])
					mu.Unlock()
				}))
			if err != nil {
				return nil, err
			}
			own, cancel := context.WithCancel(ctx)
			m := &member{cancel, make(chan error, 1)}
			go func() {
				defer c.Close()
				for {
					fetches := c.PollFetches(own)
					if own.Err() != nil {
						m.done <- nil
						return
					}
					mu.Lock()
					fetches.EachRecord(func(r *kgo.Record) { seen[string(r.Value)]++ })
					mu.Unlock()
					if err := c.CommitUncommittedOffsets(own); err != nil && own.Err() == nil {
						m.done <- err
						return
					}
				}
			}()
			return m, nil
		}
		until := func(what string, holds func() bool) error {
			for {
				mu.Lock()
				ok := holds()
				mu.Unlock()
				if ok {
					return nil
				}
				select {
				case <-ctx.Done():
					return fmt.Errorf("not seen: %s (assigned %v, %d records)", what, assigned, len(seen))
				case <-time.After(50 * time.Millisecond):
				}
			}
		}
		send := func(prefix string) error {
			c, err := client()
			if err != nil {
				return err
			}
			defer c.Close()
			var records []*kgo.Record
			for i := range 400 {
				records = append(records, &kgo.Record{Topic: name, Key: []byte(strconv.Itoa(i)), Value: []byte(prefix + strconv.Itoa(i))})
			}
			return c.ProduceSync(ctx, records...).FirstErr()
		}
		one, err := start(0)
		if err != nil {
			return err
		}
		two, err := start(1)
		if err != nil {
			return err
		}
		steps := []func() error{
			func() error { return until("two partitions each", func() bool { return assigned == [2]int{2, 2} }) },
			func() error { return send("a") },
			func() error { return until("all read by the two", func() bool { return len(seen) == 400 }) },
			func() error { two.cancel(); return <-two.done },
			func() error { return until("the one that stays takes over", func() bool { return assigned[0] == 4 }) },
			func() error { return send("b") },
			func() error { return until("all read by the one", func() bool { return len(seen) == 800 }) },
			func() error { time.Sleep(200 * time.Millisecond); one.cancel(); return <-one.done },
		}
		for _, step := range steps {
			if err := step(); err != nil {
				return err
			}
		}
		for value, times := range seen {
			if times != 1 {
				return fmt.Errorf("%s came %d times", value, times)
			}
		}
		a, err := admin()
		if err != nil {
			return err
		}
		defer a.Close()
		offsets, err := a.FetchOffsets(ctx, group)
		if err != nil {
			return err
		}
		var sum int64
		offsets.Each(func(o kadm.OffsetResponse) { sum += o.At })
		if sum != 800 {
			return fmt.Errorf("committed %d of 800", sum)
		}
		return nil
	}
}

func adminTells(ctx context.Context) error {
	retention := "12345"
	name, err := topic(ctx, "admin", 2, map[string]*string{"retention.ms": &retention})
	if err != nil {
		return err
	}
	c, err := client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer c.Close()
	now := time.Now().Add(-time.Minute).UnixMilli()
	for i := range 10 {
		r := &kgo.Record{Topic: name, Value: []byte("v"), Timestamp: time.UnixMilli(now + int64(i)*1000)}
		if err := c.ProduceSync(ctx, r).FirstErr(); err != nil {
			return err
		}
	}
	a := kadm.NewClient(c)
	if listed, err := a.ListOffsetsAfterMilli(ctx, now+4500, name); err != nil {
		return err
	} else if o, _ := listed.Lookup(name, 0); o.Offset != 5 {
		return fmt.Errorf("by time: %+v", o)
	}
	configs, err := a.DescribeTopicConfigs(ctx, name)
	if err != nil {
		return err
	}
	for _, entry := range configs[0].Configs {
		if entry.Key == "retention.ms" && entry.MaybeValue() != retention {
			return fmt.Errorf("retention.ms is %s", entry.MaybeValue())
		}
	}
	trim := kadm.Offsets{}
	trim.Add(kadm.Offset{Topic: name, Partition: 0, At: 4})
	if _, err := a.DeleteRecords(ctx, trim); err != nil {
		return err
	}
	if starts, err := a.ListStartOffsets(ctx, name); err != nil {
		return err
	} else if o, _ := starts.Lookup(name, 0); o.Offset != 4 {
		return fmt.Errorf("start after the trim: %+v", o)
	}
	if _, err := a.DeleteTopic(ctx, name); err != nil {
		return err
	}
	topics, err := a.ListTopics(ctx)
	if err == nil && topics.Has(name) {
		err = errors.New("topic is still there")
	}
	return err
}

func errorsAreKafkas(ctx context.Context) error {
	limit := "2000"
	name, err := topic(ctx, "errors", 1, map[string]*string{"max.message.bytes": &limit})
	if err != nil {
		return err
	}
	if _, err := topic(ctx, "errors", 1, nil); !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("created twice: %v", err)
	}
	c, err := client(kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.ProduceSync(ctx, &kgo.Record{Topic: name, Value: make([]byte, 5000)}).FirstErr(); !errors.Is(err, kerr.MessageTooLarge) {
		return fmt.Errorf("too large a record: %v", err)
	}
	return c.ProduceSync(ctx, &kgo.Record{Topic: name, Value: []byte("small")}).FirstErr()
}

func main() {
	check("every_codec_comes_back_byte_for_byte", everyCodec)
	check("idempotent_producer_keeps_order_and_reports_offsets", idempotentOrder)
	check("an_eager_group_of_two_shares_and_takes_over", groupOfTwo(kgo.RangeBalancer()))
	check("a_cooperative_group_of_two_shares_and_takes_over", groupOfTwo(kgo.CooperativeStickyBalancer()))
	check("admin_tells_and_changes", adminTells)
	check("errors_are_kafkas_own", errorsAreKafkas)
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}
