//! The examples of texts for readers, run as they stand: every command of a man page's EXAMPLES, of a `--help`, of a page
//! of docs/ has an account, and none is written down here a second time to be run instead.
//!
//! A test takes three steps. [`in_place`] gives it a [`Place`]: a node of its own with the programs on PATH, in a network
//! and under an /etc, /var, /srv and /run of its own, so that an example may say `127.0.0.1:8080` and
//! `/etc/mcp/services/shop.toml`. A list of [`Example`]s says what to run: [`of_page`] and [`of_help`] read them from where
//! they stand, and another kind of text makes its own (`commands` splits a block into its commands). [`run`] runs them
//! in that order, each by `sh -c` in the place's folder `work`, and holds its exit code against 0, or against what the
//! example's [`Care`] says:
//!
//! ```ignore
//! in_place("examples_of_the_tour", |place| {
//!     place.shell("cp hello.toml /etc/mcp/services/");             // what the text takes for granted
//!     run(place, &[Example::new("docs/tour.md", 12, "mcp deploy hello")], &[
//!         Care::of("mcp status || echo drift").says("drift"),      // must be on stdout or stderr
//!         Care::of("mcp-health nobody").exits(1),
//!         Care::of("mcp-stop demo").before("mcp-run --detach demo"),
//!         Care::of("mcp-logs -f demo").until("grep -q listening said", "kill -TERM -$group").exits(143),
//!         Care::of("mcp-get-guest-kernel").not_run("it downloads a kernel"),
//!     ]);
//! });
//! ```
//!
//! All that went wrong is told at once. A care for a command that no example has fails the test too, so that the
//! table never holds more than the texts.

mod pages;
mod place;
mod read;
mod run;

pub use place::{Place, in_place};
pub use read::{Example, commands, of_help, of_page};
pub use run::{Care, run};

#[test]
fn examples_are_found_in_a_block() {
    let block = |lines: &[&str]| lines.iter().enumerate().map(|(n, l)| (n + 7, l.to_string())).collect::<Vec<_>>();
    let found = |lines: &[&str]| {
        let found = commands("text", &block(lines)).into_iter();
        found.map(|e| format!("{}: {}", e.line, e.command)).collect::<Vec<_>>()
    };
    assert_eq!(
        found(&["# a remark", "true", "", "a | b |", "while c; do d", "done"]),
        ["8: true", "10: a | b |\nwhile c; do d\ndone"]
    );
    assert_eq!(found(&["$ a \\", "  b", "it prints", "$ c"]), ["7: a \\\n  b", "10: c"]);
    assert_eq!(found(&["*/5 * * * 1-5 root date +\\%s"]), ["7: date +%s"]);
}
