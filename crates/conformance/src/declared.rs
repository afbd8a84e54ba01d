//! `docs/differences.md`: where Ottla means to differ from Kafka. The reasons are for people; the blocks marked `differences`,
//! `differences-by-chance` and `not-advertised` are read here.

use anyhow::{Context, Result, bail, ensure};

use crate::compare::Difference;
use crate::pattern::matches;

/// One line of a `differences` block: `API | script/label | field | Kafka | Ottla`, each with `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    pub line: usize,
    pub api: String,
    step: String,
    path: String,
    kafka: String,
    ottla: String,
    /// It need not show in every run: Kafka answers in the order of a hash table.
    pub by_chance: bool,
}

#[derive(Debug, Default)]
pub struct Declared {
    pub patterns: Vec<Pattern>,
    /// Names of APIs that Kafka advertises and Ottla does not.
    pub not_advertised: Vec<String>,
}

impl Pattern {
    pub fn fits(&self, difference: &Difference) -> bool {
        matches(&self.api, &difference.api)
            && matches(&self.step, &difference.step)
            && matches(&self.path, &difference.path)
            && matches(&self.kafka, &difference.kafka)
            && matches(&self.ottla, &difference.ottla)
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Pattern { line, api, step, path, kafka, ottla, by_chance: _ } = self;
        write!(f, "line {line}: {api} | {step} | {path} | {kafka} | {ottla}")
    }
}

impl Declared {
    pub fn tells(&self, difference: &Difference) -> bool {
        self.patterns.iter().any(|pattern| pattern.fits(difference))
    }

    pub fn parse(text: &str) -> Result<Declared> {
        let mut declared = Declared::default();
        let mut block: Option<&str> = None;
        for (index, line) in text.lines().enumerate() {
            let line_number = index + 1;
            if let Some(info) = line.strip_prefix("```") {
                block = if block.is_some() { None } else { Some(info.trim()) };
                continue;
            }
            match block {
                Some(kind @ ("differences" | "differences-by-chance")) => {
                    let columns: Vec<&str> = line.split('|').map(str::trim).collect();
                    let [api, step, path, kafka, ottla] = columns[..] else {
                        bail!(
                            "line {line_number} of the differences has {} columns and not 5: {line}",
                            columns.len()
                        );
                    };
                    let [api, step, path, kafka, ottla] = [api, step, path, kafka, ottla].map(str::to_owned);
                    let by_chance = kind == "differences-by-chance";
                    let line = line_number;
                    declared.patterns.push(Pattern { line, api, step, path, kafka, ottla, by_chance });
                }
                Some("not-advertised") => {
                    declared.not_advertised.extend(line.split_whitespace().map(str::to_owned));
                }
                _ => {}
            }
        }
        ensure!(block.is_none(), "a block is not closed");
        Ok(declared)
    }

    pub fn read(path: &std::path::Path) -> Result<Declared> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Declared::parse(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_read_and_names_apis_that_there_are() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/differences.md");
        let declared = Declared::read(&path).unwrap();
        let is_known = |name: &str| protocol::ApiKey::all().any(|key| key.name() == name);
        for pattern in &declared.patterns {
            assert!(pattern.api == "*" || is_known(&pattern.api), "{pattern}");
        }
        for name in &declared.not_advertised {
            assert!(is_known(name), "{name}");
        }
        assert!(!declared.patterns.is_empty());
    }

    #[test]
    fn only_marked_blocks_are_read() {
        let text = "# A\nFoo | bar\n```differences\nFetch | * | a[].b | 1 | *\n```\n```\nx | y\n```\n\
                    ```not-advertised\nVote BeginQuorumEpoch\n```\n";
        let declared = Declared::parse(text).unwrap();
        assert_eq!(declared.not_advertised, ["Vote", "BeginQuorumEpoch"]);
        let [pattern] = &declared.patterns[..] else { panic!("{declared:?}") };
        let mut difference = Difference {
            api: "Fetch".into(),
            step: "s/l".into(),
            path: "a[].b".into(),
            kafka: "1".into(),
            ottla: "2".into(),
        };
        assert!(pattern.fits(&difference));
        difference.kafka = "3".into();
        assert!(!pattern.fits(&difference));
        assert!(Declared::parse("```differences\na | b\n```").is_err());
        assert!(Declared::parse("```differences\n").is_err());
    }
}
