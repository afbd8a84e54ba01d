//! OTLP metrics (opentelemetry-proto, `metrics/v1/metrics.proto`), as far as Kafka's clients write them: `MetricsData` with gauges and
//! sums of numbers. Histograms and summaries are counted and left out. Protocol Buffers are read by hand: six messages, no tree.

/// Values that one push may have.
const POINTS_MAX: usize = 5_000;
/// Bytes of a metric's name, a label's name or a label's value.
const TEXT_LEN_MAX: usize = 200;
/// Labels of a value.
const LABELS_MAX: usize = 8;

/// One value of a client.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// As the client says it: `org.apache.kafka.producer.connection.creation.total`.
    pub metric: String,
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

/// The values, and how many more there were that are not shown; none when the bytes are no such message.
pub(super) fn points(bytes: &[u8]) -> Option<(Vec<Point>, usize)> {
    let mut found = Found { points: Vec::new(), dropped: 0 };
    // MetricsData.resource_metrics, ResourceMetrics.scope_metrics, ScopeMetrics.metrics
    for resource in messages(bytes, 1)? {
        for scope in messages(resource, 2)? {
            for metric in messages(scope, 2)? {
                found.metric(metric)?;
            }
        }
    }
    Some((found.points, found.dropped))
}

struct Found {
    points: Vec<Point>,
    dropped: usize,
}

impl Found {
    fn metric(&mut self, metric: &[u8]) -> Option<()> {
        let mut name = "";
        let mut data = None;
        for field in Fields(metric) {
            match field? {
                (1, Field::Bytes(text)) => name = std::str::from_utf8(text).ok()?,
                // gauge = 5, sum = 7: both have their points in field 1.
                (5 | 7, Field::Bytes(message)) => data = Some(message),
                (9..=11, Field::Bytes(_)) => self.dropped += 1,
                _ => {}
            }
        }
        for point in messages(data.unwrap_or_default(), 1)? {
            match self.points.len() < POINTS_MAX {
                true => self.point(name, point)?,
                false => self.dropped += 1,
            }
        }
        Some(())
    }

    fn point(&mut self, metric: &str, point: &[u8]) -> Option<()> {
        let (mut labels, mut value) = (Vec::new(), None);
        for field in Fields(point) {
            match field? {
                (4, Field::Fixed64(bits)) => value = Some(f64::from_bits(bits)),
                (6, Field::Fixed64(bits)) => value = Some(bits as i64 as f64),
                (7, Field::Bytes(attribute)) => labels.push(label(attribute)?),
                _ => {}
            }
        }
        let is_short = |text: &str| text.len() <= TEXT_LEN_MAX;
        let fits = is_short(metric)
            && labels.len() <= LABELS_MAX
            && labels.iter().all(|(name, value)| is_short(name) && is_short(value));
        match value {
            Some(value) if fits => self.points.push(Point { metric: metric.to_owned(), labels, value }),
            _ => self.dropped += 1,
        }
        Some(())
    }
}

/// KeyValue { key = 1, value = 2 }, AnyValue { string = 1, bool = 2, int = 3, double = 4 }.
fn label(attribute: &[u8]) -> Option<(String, String)> {
    let (mut key, mut text) = (String::new(), String::new());
    for field in Fields(attribute) {
        match field? {
            (1, Field::Bytes(bytes)) => key = std::str::from_utf8(bytes).ok()?.to_owned(),
            (2, Field::Bytes(any)) => {
                for field in Fields(any) {
                    text = match field? {
                        (1, Field::Bytes(bytes)) => std::str::from_utf8(bytes).ok()?.to_owned(),
                        (2, Field::Varint(bit)) => (bit != 0).to_string(),
                        (3, Field::Varint(number)) => (number as i64).to_string(),
                        (4, Field::Fixed64(bits)) => f64::from_bits(bits).to_string(),
                        _ => continue,
                    };
                }
            }
            _ => {}
        }
    }
    Some((key, text))
}

/// The embedded messages with this number.
fn messages(bytes: &[u8], number: u64) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    for field in Fields(bytes) {
        if let (of, Field::Bytes(message)) = field?
            && of == number
        {
            found.push(message);
        }
    }
    Some(found)
}

enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32,
}

/// The fields of a message with their numbers; none where the bytes are no message, and nothing behind it.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u64, Field<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Field<'a>)> {
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let len = usize::try_from(self.varint()?).ok()?;
                Field::Bytes(self.take(len)?)
            }
            5 => {
                self.take(4)?;
                Field::Fixed32
            }
            _ => return None,
        };
        Some((tag >> 3, field))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A field with a length before it.
    pub fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        let mut len = content.len();
        while len >= 0x80 {
            out.push(len as u8 | 0x80);
            len >>= 7;
        }
        out.push(len as u8);
        out.extend_from_slice(content);
        out
    }

    /// MetricsData with one metric; `kind` 5 is a gauge, 7 a sum, 9 a histogram.
    pub fn data(name: &str, kind: u8, points: &[Vec<u8>]) -> Vec<u8> {
        let points: Vec<u8> = points.iter().flat_map(|point| bytes(1, point)).collect();
        let metric = [bytes(1, name.as_bytes()), bytes(kind, &points)].concat();
        bytes(1, &bytes(2, &bytes(2, &metric)))
    }

    pub fn double(value: f64) -> Vec<u8> {
        [&[4 << 3 | 1][..], &value.to_bits().to_le_bytes()].concat()
    }

    fn attribute(key: &str, any: &[u8]) -> Vec<u8> {
        bytes(7, &[bytes(1, key.as_bytes()), bytes(2, any)].concat())
    }

    #[test]
    fn gauges_and_sums_are_read_with_their_labels() {
        let int = [&[6 << 3 | 1][..], &(-3_i64).to_le_bytes()].concat();
        let labels =
            [attribute("topic", &bytes(1, b"orders")), attribute("partition", &[3 << 3, 7])].concat();
        let gauge = data("a", 5, &[[double(1.5), labels].concat(), int]);
        let all = [gauge, data("b", 7, &[double(2.0)])].concat();
        let (points, dropped) = points(&all).unwrap();
        let point = |metric: &str, value, labels: &[(&str, &str)]| Point {
            metric: metric.to_owned(),
            labels: labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            value,
        };
        let expected = [
            point("a", 1.5, &[("topic", "orders"), ("partition", "7")]),
            point("a", -3.0, &[]),
            point("b", 2.0, &[]),
        ];
        assert_eq!(points, expected);
        assert_eq!(dropped, 0);
    }

    #[test]
    fn what_is_not_shown_is_counted() {
        assert_eq!(points(&data("h", 9, &[double(1.0)])), Some((Vec::new(), 1)));
        let long = "x".repeat(TEXT_LEN_MAX + 1);
        assert_eq!(points(&data(&long, 5, &[double(1.0)])), Some((Vec::new(), 1)));
        let many = vec![double(1.0); POINTS_MAX + 3];
        let (points, dropped) = points(&data("m", 5, &many)).unwrap();
        assert_eq!((points.len(), dropped), (POINTS_MAX, 3));
    }

    #[test]
    fn other_bytes_are_no_metrics() {
        let whole = data("a", 5, &[double(1.5)]);
        assert_eq!(points(b""), Some((Vec::new(), 0)));
        for cut in 1..whole.len() {
            assert_eq!(points(&whole[..cut]), None, "{cut} bytes");
        }
        assert_eq!(points(&[0xff; 32]), None);
        assert_eq!(points(b"hello"), None);
    }
}
