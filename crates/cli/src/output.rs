//! Tables for people, JSON for programs; both on stdout, and nothing else goes there.

use std::io::{self, Write};

use crate::arguments::Output;
use crate::exit::{Done, Failure};

/// Prints rows under their column names. As JSON: an array of objects with those names.
pub fn table(output: Output, columns: &[&str], rows: &[Vec<serde_json::Value>]) -> Done {
    match output {
        Output::Table => print(&aligned(columns, rows)),
        Output::Json => json(&objects(columns, rows)),
    }
}

/// Rows as an array of objects.
pub fn objects(columns: &[&str], rows: &[Vec<serde_json::Value>]) -> serde_json::Value {
    let object = |row: &Vec<serde_json::Value>| {
        let fields = columns.iter().zip(row).map(|(column, value)| (column.to_string(), value.clone()));
        serde_json::Value::Object(fields.collect())
    };
    serde_json::Value::Array(rows.iter().map(object).collect())
}

pub fn json(value: &serde_json::Value) -> Done {
    print(&format!("{value}\n"))
}

pub fn print(text: &str) -> Done {
    match io::stdout().lock().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Ok(()) => Ok(()),
        // `ottla … | head` has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::failed(format!("stdout: {error}"))),
    }
}

fn aligned(columns: &[&str], rows: &[Vec<serde_json::Value>]) -> String {
    let head: Vec<String> = columns.iter().map(|column| column.to_uppercase()).collect();
    let body = rows.iter().map(|row| row.iter().map(plain).collect());
    let lines: Vec<Vec<String>> = std::iter::once(head).chain(body).collect();
    let widths: Vec<usize> = (0..columns.len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

pub fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => "-".to_owned(),
        serde_json::Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_stand_below_one_another() {
        let rows = [vec![json!("clicks"), json!(3), json!(null)], vec![json!("x"), json!(12), json!([1, 2])]];
        assert_eq!(
            aligned(&["name", "n", "isr"], &rows),
            "NAME    N   ISR\nclicks  3   -\nx       12  1,2\n"
        );
    }
}
