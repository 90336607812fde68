//! What can be typed after `penncloud kv`, and the help that it gives.

use super::name::{self, Name};
use clap::{Args, Subcommand};
use std::ffi::OsString;
use std::path::PathBuf;

/// What the help ends with.
const AFTER_HELP: &str = "\
Rows and columns hold any bytes. A byte may be written %XX (two hexadecimal digits); % itself is %25. Names are
printed so that they can be typed back. Values are taken as they are.

Exit codes:
  0  done
  1  no such cell, or a condition that does not hold; standard error says which, and the cell's version
  2  the command line, the configuration or a local file is wrong; nothing was asked of the store
  3  refused or failed; standard error says whether a write may have been executed

Examples:
  penncloud kv put alice note hello
  penncloud kv get alice note
  tar c photos | penncloud kv put alice/files backup.tar -
  penncloud kv get alice/files backup.tar -o backup.tar
  penncloud kv put alice lock me --if 0 --ttl 60
  penncloud kv scan alice --prefix log/ --values
  penncloud kv --node a1 rows --prefix alice";

/// One command of the store's client.
#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub struct Arguments {
    /// The cluster's configuration.
    #[arg(long, value_name = "FILE", default_value = "conf/local.toml", global = true)]
    pub config: PathBuf,
    /// Ask this node alone: a name of the configuration, or host:port. It passes on what another must do.
    #[arg(long, value_name = "NAME|ADDRESS", global = true)]
    pub node: Option<String>,
    /// How long each request is tried [default: request_ms of the configuration].
    #[arg(long, value_name = "SECONDS", global = true,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub timeout: Option<u64>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Read a value, or a part of it.
    ///
    /// It is written to standard output, or to a file, as it is, in the memory of a few chunks. Where the node that
    /// sends it is lost, another goes on at the same version.
    Get(Get),
    /// Write a value of any size; prints the cell's version.
    ///
    /// A large value is sent in chunks while it is read, and becomes visible when all of it is there.
    Put(Put),
    /// Write NEW if the value is OLD now; prints the cell's version.
    Cput(Cput),
    /// Remove a cell; prints the version at which it happened.
    Delete(Delete),
    /// Remove all cells of a row; prints the version at which it happened.
    DeleteRow {
        /// Row.
        #[arg(value_parser = name::parser())]
        row: Name,
    },
    /// Add N to an integer cell, which counts as 0 while it is missing; prints the sum.
    Add(Add),
    /// Write under the next number of a prefix in the row; prints the column.
    Append(Append),
    /// List the columns of a row in order: version, length, name.
    ///
    /// One line a column, over as many pages as there are; a value that is larger than a cell has `big=1` in the
    /// place of its bytes.
    Scan(Scan),
    /// List the rows that a node itself holds: cells, bytes, name.
    ///
    /// Without --node, of one node of each group: together these are all rows. The node tells what it knows to be
    /// committed, some milliseconds behind the primary or further.
    Rows(Rows),
    /// What the master and each node say of themselves; or the one that --node names.
    Status,
}

/// `get`.
#[derive(Args, Debug)]
pub struct Get {
    /// Row.
    #[arg(value_parser = name::parser())]
    pub row: Name,
    /// Column.
    #[arg(value_parser = name::parser())]
    pub column: Name,
    /// Write to FILE: to FILE.part, which is renamed when the value is whole.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// First byte wanted.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub offset: u64,
    /// How many bytes; all that is left, unless told.
    #[arg(long, value_name = "N")]
    pub length: Option<u64>,
    /// When it is done, also say `version N` on standard error, for --if.
    #[arg(long)]
    pub version: bool,
}

/// `put`.
#[derive(Args, Debug)]
pub struct Put {
    /// Row.
    #[arg(value_parser = name::parser())]
    pub row: Name,
    /// Column.
    #[arg(value_parser = name::parser())]
    pub column: Name,
    /// The value as it is; `-` is all of standard input.
    #[arg(required_unless_present = "file", allow_negative_numbers = true)]
    pub value: Option<OsString>,
    /// Take the value from FILE.
    #[arg(long, value_name = "FILE", conflicts_with = "value")]
    pub file: Option<PathBuf>,
    /// Only over this version; 0: only where there is no cell.
    #[arg(long = "if", value_name = "VERSION")]
    pub if_version: Option<u64>,
    /// Seconds after which the cell is removed.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub ttl: Option<u64>,
    /// How many bytes must come; fewer or more, and nothing is written.
    #[arg(long, value_name = "N")]
    pub length: Option<u64>,
}

/// `cput`.
#[derive(Args, Debug)]
pub struct Cput {
    /// Row.
    #[arg(value_parser = name::parser())]
    pub row: Name,
    /// Column.
    #[arg(value_parser = name::parser())]
    pub column: Name,
    /// The value expected, at most a cell.
    #[arg(allow_negative_numbers = true)]
    pub old: OsString,
    /// The value to write, at most a cell.
    #[arg(allow_negative_numbers = true)]
    pub new: OsString,
}

/// `delete`.
#[derive(Args, Debug)]
pub struct Delete {
    /// Row.
    #[arg(value_parser = name::parser())]
    pub row: Name,
    /// Column.
    #[arg(value_parser = name::parser())]
    pub column: Name,
    /// Only at this version.
    #[arg(long = "if", value_name = "VERSION")]
    pub if_version: Option<u64>,
}

/// `add`.
#[derive(Args, Debug)]
pub struct Add {
    /// Row.
    #[arg(value_parser = name::parser())]
    pub row: Name,
    /// Column.
    #[arg(value_parser = name::parser())]
    pub column: Name,
    /// What to add.
    #[arg(value_name = "N", allow_negative_numbers = true)]
    pub delta: i64,
    /// Refuse a larger sum; what adds nothing is done all the same.
    #[arg(long, value_name = "BOUND", allow_negative_numbers = true)]
    pub max: Option<i64>,
}

/// `append`.
#[derive(Args, Debug)]
pub struct Append {
    /// Row.
    #[arg(value_parser = name::parser())]
    pub row: Name,
    /// Start of the column's name; 12 digits follow.
    #[arg(value_parser = name::parser())]
    pub prefix: Name,
    /// The value, at most a cell.
    #[arg(allow_negative_numbers = true)]
    pub value: OsString,
}

/// `scan`.
#[derive(Args, Debug)]
pub struct Scan {
    /// Row.
    #[arg(value_parser = name::parser())]
    pub row: Name,
    /// Only columns that begin so.
    #[arg(long, value_parser = name::parser())]
    pub prefix: Option<Name>,
    /// Only columns after this one, in the direction asked.
    #[arg(long, value_name = "COLUMN", value_parser = name::parser())]
    pub after: Option<Name>,
    /// At most so many columns; all, unless told.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// From the last to the first.
    #[arg(long)]
    pub reverse: bool,
    /// With the values that fit into a cell, written as names are.
    #[arg(long)]
    pub values: bool,
    /// One JSON object a line: `column`, `version`, `length`, `big`, `value`; what is not UTF-8 is `column_base64`,
    /// `value_base64` instead.
    #[arg(long)]
    pub json: bool,
}

/// `rows`.
#[derive(Args, Debug)]
pub struct Rows {
    /// Only rows that begin so.
    #[arg(long, value_parser = name::parser())]
    pub prefix: Option<Name>,
    /// At most so many rows of a node; all, unless told.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// One JSON object a line: `row` (or `row_base64`), `cells`, `bytes`.
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser, Debug)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parse(line: &str) -> Result<Command, clap::Error> {
        let words = std::iter::once("kv").chain(line.split(' '));
        Line::try_parse_from(words).map(|line| line.arguments.command)
    }

    #[test]
    fn the_definitions_hold_together() {
        use clap::CommandFactory;
        Line::command().debug_assert();
    }

    #[test]
    fn a_put_has_one_source_and_options_anywhere() {
        let Ok(Command::Put(put)) = parse("put r a%20b --if 0 v --ttl 9") else { panic!() };
        assert_eq!((put.row.0, put.column.0), (b"r".to_vec(), b"a b".to_vec()));
        assert_eq!((put.value, put.if_version, put.ttl), (Some("v".into()), Some(0), Some(9)));
        let Ok(Command::Put(put)) = parse("put r c -") else { panic!() };
        assert_eq!(put.value, Some("-".into()));
        let Ok(Command::Put(put)) = parse("put r c -- --if") else { panic!() };
        assert_eq!(put.value, Some("--if".into()));
        assert!(matches!(parse("put r c --file f"), Ok(Command::Put(Put { value: None, .. }))));
        for wrong in ["put r c", "put r c v --file f", "put r c v w", "put r c v --ttl 0"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_may_be_negative_where_they_are_values() {
        assert!(matches!(parse("add r c -7"), Ok(Command::Add(Add { delta: -7, .. }))));
        let Ok(Command::Add(add)) = parse("add r c 7 --max -1") else { panic!() };
        assert_eq!((add.delta, add.max), (7, Some(-1)));
        assert!(matches!(parse("cput r c -1 -2"), Ok(Command::Cput(_))));
        for wrong in ["add r c x", "get r c --offset -1", "scan r --limit -1", "get r%2 c"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_row_is_not_removed_by_leaving_the_column_out() {
        assert!(parse("delete r").is_err());
        assert!(matches!(parse("delete r c --if 3"), Ok(Command::Delete(_))));
        assert!(matches!(parse("delete-row r"), Ok(Command::DeleteRow { .. })));
    }
}
