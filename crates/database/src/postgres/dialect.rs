//! The statements of both stores as PostgreSQL takes them.

/// A statement: `?1` becomes `$1`, and hints for SQLite's planner are left out.
pub(super) fn statement(sql: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    let mut rest = sql.split_whitespace();
    while let Some(word) = rest.next() {
        if word == "INDEXED" {
            // `INDEXED BY` and the index.
            rest.next();
            rest.next();
            continue;
        }
        let is_column = |rest: &str| rest.starts_with(|first: char| first.is_ascii_alphabetic());
        words.push(match word.strip_prefix('+') {
            Some(column) if is_column(column) => column,
            Some(_) | None => word,
        });
    }
    words.join(" ").replace('?', "$")
}

/// A migration: numbers have 64 bits, and texts are compared by their bytes, as in SQLite.
pub(super) fn migration(sql: &str) -> String {
    let mut all = String::with_capacity(sql.len() * 2);
    for line in sql.lines() {
        let code = line.split("--").next().unwrap_or_default();
        let code = code
            .replace(") STRICT;", ");")
            .replace(") STRICT, WITHOUT ROWID;", ");")
            .replace("INTEGER", "BIGINT")
            .replace("TEXT", "TEXT COLLATE \"C\"");
        all.push_str(&code);
        all.push('\n');
    }
    all
}

#[cfg(test)]
mod tests {
    use super::{migration, statement};

    #[test]
    fn values_are_numbered_and_hints_left_out() {
        let sql = "SELECT a FROM t INDEXED BY t_by_a\n  WHERE (a, b) < (?1, ?12) AND +c = 'x' \
                   LIMIT ?2";
        let expect = "SELECT a FROM t WHERE (a, b) < ($1, $12) AND c = 'x' LIMIT $2";
        assert_eq!(statement(sql), expect);
        assert_eq!(statement("SET n = n + 1"), "SET n = n + 1");
    }

    #[test]
    fn tables_have_wide_numbers_and_texts_by_bytes() {
        let sql = "CREATE TABLE t ( -- of TEXT\n a INTEGER NOT NULL,\n b TEXT\n) STRICT;\n\
                   CREATE TABLE u (\n c TEXT PRIMARY KEY\n) STRICT, WITHOUT ROWID;\n";
        let expect = "CREATE TABLE t ( \n a BIGINT NOT NULL,\n b TEXT COLLATE \"C\"\n);\n\
                      CREATE TABLE u (\n c TEXT COLLATE \"C\" PRIMARY KEY\n);\n";
        assert_eq!(migration(sql), expect);
    }
}
