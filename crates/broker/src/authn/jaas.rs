//! `sasl.jaas.config`: one login module with its options, as Kafka's files have it.
//!
//! ```text
//!   org.apache.kafka.common.security.plain.PlainLoginModule required
//!      username="admin" password="a" user_admin="a" user_alice="b";
//! ```

use std::collections::BTreeMap;
use std::fmt;

/// One entry. Its options are secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct JaasEntry {
    pub module: String,
    pub options: BTreeMap<String, String>,
}

impl fmt::Debug for JaasEntry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "JaasEntry({}, {} options)", self.module, self.options.len())
    }
}

const FLAGS: [&str; 4] = ["required", "requisite", "sufficient", "optional"];

#[derive(PartialEq, Eq)]
enum Token {
    Word(String),
    Equals,
    End,
}

/// Why not is for whoever wrote it, and has nothing of the text in it, which is a secret.
pub fn parse(text: &str) -> Result<JaasEntry, &'static str> {
    let mut tokens = tokens(text)?.into_iter();
    let Some(Token::Word(module)) = tokens.next() else {
        return Err("it does not begin with a login module");
    };
    match tokens.next() {
        Some(Token::Word(flag)) if FLAGS.contains(&flag.to_lowercase().as_str()) => {}
        _ => return Err("behind the login module comes required, requisite, sufficient or optional"),
    }
    let mut options = BTreeMap::new();
    loop {
        match tokens.next() {
            Some(Token::Word(key)) => match (tokens.next(), tokens.next()) {
                (Some(Token::Equals), Some(Token::Word(value))) => drop(options.insert(key, value)),
                _ => return Err("an option is name=\"value\""),
            },
            Some(Token::End) => break,
            Some(Token::Equals) => return Err("an option is name=\"value\""),
            None => return Err("the semicolon at the end is missing"),
        }
    }
    match tokens.next() {
        None => Ok(JaasEntry { module, options }),
        Some(_) => Err("a second login module is not possible here"),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, &'static str> {
    let mut tokens = Vec::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            ';' => tokens.push(Token::End),
            '=' => tokens.push(Token::Equals),
            quote @ ('"' | '\'') => {
                let mut word = String::new();
                loop {
                    match characters.next() {
                        Some('\\') => match characters.next() {
                            Some('n') => word.push('\n'),
                            Some('t') => word.push('\t'),
                            Some('r') => word.push('\r'),
                            Some(other) => word.push(other),
                            None => return Err("a quote has no end"),
                        },
                        Some(end) if end == quote => break,
                        Some(other) => word.push(other),
                        None => return Err("a quote has no end"),
                    }
                }
                tokens.push(Token::Word(word));
            }
            space if space.is_whitespace() => {}
            first => {
                let mut word = String::from(first);
                while let Some(next) = characters
                    .next_if(|next| !next.is_whitespace() && !matches!(next, ';' | '=' | '"' | '\''))
                {
                    word.push(next);
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_as_kafka_s_files_have_it() {
        let entry = parse(
            "org.apache.kafka.common.security.plain.PlainLoginModule required \n username=\"admin\" \
             password=\"a;b=\\\"c\\\"\" user_alice='x y' refresh = true ;",
        )
        .unwrap();
        assert_eq!(entry.module, "org.apache.kafka.common.security.plain.PlainLoginModule");
        let options: Vec<_> =
            entry.options.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let expected =
            [("password", "a;b=\"c\""), ("refresh", "true"), ("user_alice", "x y"), ("username", "admin")];
        assert_eq!(options, expected);
        assert!(!format!("{entry:?}").contains("x y"));
        for wrong in [
            "",
            "M",
            "M required",
            "M maybe;",
            "M required a;",
            "M required a=;",
            "M required a=\"b;",
            "= required;",
            "M required; N required;",
            "M required =a;",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
