//! The appendix "Conventions in one page" is what the contract says.
//!
//! WORKBOOK_WRITE=1 writes its tables anew.

use std::{fmt::Write, fs, path::PathBuf};

use lab::{
    SpanType,
    contract::{Condition, Level, RENAMED, Row, TABLE},
};

const PAGE: &str = "book/src/appendix/conventions.md";

/// The line before a table names it, and this is the one after it.
const END: &str = "<!-- end of the table -->";

fn page() -> PathBuf {
    let package = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = package.ancestors().nth(2).expect("two levels up");
    workspace.join(PAGE)
}

/// The name of each table, and its lines.
fn tables() -> Vec<(String, String)> {
    let types = [
        SpanType::HttpServer,
        SpanType::HttpClient,
        SpanType::Publish,
        SpanType::Process,
        SpanType::Database,
        SpanType::Internal,
    ];
    let mut tables: Vec<_> = types
        .map(|span| (format!("<!-- table: {span:?} -->"), attributes(span)))
        .into();
    tables.push(("<!-- table: renamed -->".to_owned(), renamed()));
    tables
}

fn attributes(span: SpanType) -> String {
    let mut text = "| attribute | type | | from step |\n|---|---|---|---|\n".to_owned();
    for row in TABLE.iter().filter(|row| row.span == span) {
        let (value, level) = (row.value.name(), level(row));
        let _ = writeln!(
            text,
            "| `{}` | {value} | {level} | {:02} |",
            row.attribute, row.from
        );
    }
    text
}

fn level(row: &Row) -> String {
    match row.level {
        Level::Required => "required".to_owned(),
        Level::Recommended => "recommended".to_owned(),
        Level::ConditionallyRequired(condition) => match condition {
            Condition::Failed => "if and only if it failed".to_owned(),
            Condition::Answered => "if there was an answer".to_owned(),
            Condition::OtherMethod => "if the method is `_OTHER`".to_owned(),
            Condition::With(other) => format!("with `{other}`"),
            Condition::Routed => "if it isn't empty".to_owned(),
            Condition::Always => "always, in this system".to_owned(),
            Condition::Elsewhere => elsewhere(row.attribute).to_owned(),
        },
    }
}

/// A condition that no span tells.
fn elsewhere(attribute: &str) -> &'static str {
    match attribute {
        "http.route" => "if a route matched",
        "url.query" => "if there is a query",
        "messaging.destination.anonymous" | "messaging.destination.temporary" => "only if true",
        "messaging.batch.message_count" => "of batches only",
        "db.namespace" => "if known",
        "db.response.status_code" => "if the database answered an error",
        "messaging.message.body.size" => "where the chapter asks for it",
        own if own.starts_with("app.") => "where the chapter asks for it",
        other => panic!("say here when {other} is required"),
    }
}

fn renamed() -> String {
    let mut text = "| old | new |\n|---|---|\n".to_owned();
    for (old, new) in RENAMED {
        let new: Vec<_> = new.iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(text, "| `{old}` | {} |", new.join(" or "));
    }
    text
}

/// `page` with the tables as they are to be.
fn with_tables(page: &str) -> String {
    let mut page = page.to_owned();
    for (name, table) in tables() {
        let at = page
            .find(&name)
            .unwrap_or_else(|| panic!("{PAGE} has no line {name}"));
        let start = at + name.len();
        let length = page[start..]
            .find(END)
            .unwrap_or_else(|| panic!("{name} has no end"));
        page.replace_range(start..start + length, &format!("\n\n{table}\n"));
    }
    page
}

#[test]
fn the_page_is_what_the_contract_says() {
    let is = fs::read_to_string(page()).expect("it is there");
    let to_be = with_tables(&is);
    if std::env::var_os("WORKBOOK_WRITE").is_some() {
        fs::write(page(), &to_be).expect("it can be written");
        return;
    }
    let differs = is
        .lines()
        .zip(to_be.lines())
        .find(|(is, to_be)| is != to_be);
    assert!(
        is == to_be,
        "{PAGE} is not what crates/lab/src/contract.rs says: {differs:?}\n\
         `WORKBOOK_WRITE=1 cargo test -p lab --test conventions` writes it anew"
    );
}

#[test]
fn only_messaging_is_not_stable() {
    // The page says so. Who adds a row of another kind has to look it up, and to say it there.
    let known = [
        "client.",
        "db.",
        "error.type",
        "http.",
        "network.",
        "server.",
        "url.",
        "user_agent.",
    ];
    for row in TABLE {
        let name = row.attribute;
        let is_stable = known.iter().any(|start| name.starts_with(start));
        let is_told = name.starts_with("messaging.") || name.starts_with("app.");
        assert!(is_stable || is_told, "{name}");
    }
}

#[test]
fn a_row_more_is_noticed() {
    let is = with_tables(&fs::read_to_string(page()).expect("it is there"));
    let row = "| `url.path` | string | required | 02 |\n";
    assert!(is.contains(row));
    assert_ne!(with_tables(&is.replace(row, "")), is.replace(row, ""));
}
