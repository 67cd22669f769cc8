//! scripts/completion: the files are what the programs' own `--help` gives, and they complete in the shells themselves.
//! `MCP_TEST_BLESS=1 cargo test --test suite completion` writes them anew.

mod files;
mod help;

use crate::harness::skip;
use crate::tree::Tree;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/completion")
}

#[test]
fn completion_files_are_what_the_programs_say() {
    let programs = help::programs();
    let bless = std::env::var_os("MCP_TEST_BLESS").is_some();
    let mut wrong = Vec::new();
    for (name, text) in
        [("mcp.bash", files::bash(&programs)), ("_mcp", files::zsh(&programs)), ("mcp.fish", files::fish(&programs))]
    {
        let path = folder().join(name);
        if bless {
            std::fs::create_dir_all(folder()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        if std::fs::read_to_string(&path).unwrap_or_default() != text {
            wrong.push(name);
        }
    }
    assert!(
        wrong.is_empty(),
        "scripts/completion: {wrong:?} differ from what --help says; MCP_TEST_BLESS=1 cargo test --test suite completion_files"
    );
}

/// A node with two services and two stages, and a PATH with the programs as they are installed.
fn node() -> (Tree, String) {
    let tree = Tree::new();
    let component = |name: &str, port: u16| {
        format!("[[components]]\nname = \"{name}\"\nimage = \"docker.io/x/y:1\"\nports = [\"{port}:80\"]\n")
    };
    tree.put(
        &tree.paths.services.join("shop.toml"),
        &format!("name = \"shop\"\n{}{}", component("api", 8001), component("web", 8002)),
    );
    tree.put(&tree.paths.services.join("mail.toml"), &format!("name = \"mail\"\n{}", component("smtp", 8003)));
    let stage =
        |name: &str, service: &str| format!("[[boot.sequence]]\nname = \"{name}\"\nservices = [\"{service}\"]\n");
    tree.put(&tree.paths.config, &(stage("foundation", "mail") + &stage("core", "shop")));
    let bin = tree.root.join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    // fish completes for programs that are there.
    for program in help::programs() {
        std::os::unix::fs::symlink(help::source(&program.name), bin.join(&program.name)).unwrap();
    }
    let path = format!("{}:/usr/bin:/bin", bin.display());
    (tree, path)
}

/// Lines, and what each must offer, all of it, in any order. ROOT stands for the node.
const CASES: &[(&str, &[&str])] = &[
    ("mcp st", &["status", "stop"]),
    ("mcp --root ROOT he", &["health", "help"]),
    ("mcp --root ROOT stop ", &["mail", "mail/smtp", "shop", "shop/api", "shop/web"]),
    ("mcp stop --root ROOT shop/", &["shop/api", "shop/web"]),
    ("mcp-logs --root ROOT m", &["mail", "mail/smtp"]),
    ("mcp-boot --root ROOT --stage ", &["core", "foundation"]),
    ("mcp-deploy --root ROOT ", &["mail", "shop"]),
    ("mcp-status --sta", &["--state"]),
    ("mcp-status --state st", &["starting", "stopped", "stopping"]),
    ("mcp-status --wanted sh", &["shop", "shop/api", "shop/web"]),
    ("mcp-run-vm --egress ", &["all", "none"]),
    ("mcp boot --d", &["--down", "--dry-run"]),
    ("mcp-health --root ROOT/e", &["ROOT/etc"]),
    ("mcp help run-", &["run-container", "run-vm"]),
    ("grpc_health_probe -tls-s", &["-tls-server-name"]),
    ("mcp units s6", &["s6", "s6-rc"]),
    ("mcp-get-guest-kernel --o", &["--own"]),
];

/// What `shell` says to its `script`, for the line in LINE.
fn offers(shell: &str, arguments: &[&str], script: &str, tree: &Tree, path: &str, line: &str) -> Vec<String> {
    let mut command = Command::new(shell);
    command.args(arguments).arg(script);
    command.env_clear().env("PATH", path).env("HOME", &tree.root).env("MCP_ROOT", &tree.root).env("TERM", "dumb");
    command.env("LINE", line).env("FOLDER", folder()).current_dir(&tree.root).stdin(Stdio::null());
    let answer = command.output().unwrap();
    let told = String::from_utf8_lossy(&answer.stdout).into_owned();
    let mut words: Vec<String> = told.lines().map(|l| l.trim_end_matches(['/', ' ']).to_string()).collect();
    words.sort();
    words.dedup();
    words.retain(|w| !w.is_empty());
    assert!(answer.stderr.is_empty(), "{shell}, {line}: {}", String::from_utf8_lossy(&answer.stderr));
    words
}

fn completes(shell: &str, arguments: &[&str], script: &str) {
    let (tree, path) = node();
    let mut wrong = Vec::new();
    for (line, wanted) in CASES {
        // Of another node than the environment's, where the line says so.
        let root = tree.root.to_str().unwrap();
        let line = line.replace("ROOT", root);
        let wanted: Vec<String> = wanted.iter().map(|w| w.replace("ROOT", root)).collect();
        let mut found = offers(shell, arguments, script, &tree, &path, &line);
        // fish 4 also lists what has the typed word in its middle; it puts what begins with it first.
        if shell == "fish" {
            let typed = line.rsplit(' ').next().unwrap_or_default();
            found.retain(|word| word.starts_with(typed));
        }
        if found != wanted {
            wrong.push(format!("{line:?} gives {found:?}, not {wanted:?}"));
        }
    }
    assert!(wrong.is_empty(), "{shell}:\n{}", wrong.join("\n"));
}

fn there(test: &str, shell: &str) -> bool {
    let found = Command::new(shell).args(["-c", "exit"]).status().is_ok_and(|s| s.success());
    if !found {
        skip(test, &format!("no {shell}"));
    }
    found
}

#[test]
fn completion_in_bash() {
    if !there("completion_in_bash", "bash") {
        return;
    }
    // As bash does it: words split at its own breaks, then the function that `complete -p` names.
    let script = r#"
        . "$FOLDER/mcp.bash"
        COMP_LINE=$LINE COMP_POINT=${#LINE}
        read -ra COMP_WORDS <<<"${LINE//=/ = }"
        [[ $LINE != *' ' ]] || COMP_WORDS+=('')
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        known=$(complete -p "${COMP_WORDS[0]}") || exit
        [[ $known == 'complete -F _mcp '* ]] || echo "not known: $known"
        _mcp "${COMP_WORDS[0]}" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    completes("bash", &["--norc", "-c"], script);
    let (tree, path) = node();
    let joined = offers("bash", &["--norc", "-c"], script, &tree, &path, "mcp-boot --stage=f");
    assert_eq!(joined, ["foundation"]);
}

#[test]
fn completion_in_fish() {
    if !there("completion_in_fish", "fish") {
        return;
    }
    // It finds the file by the program's name, as where it is installed.
    let script = r#"
        set -l home $HOME/.config/fish/completions
        mkdir -p $home
        for name in mcp mcp-boot mcp-stop (string split ' ' -- $LINE)[1]
            ln -sf $FOLDER/mcp.fish $home/$name.fish
        end
        complete -C $LINE | string replace -r '\t.*' ''
    "#;
    completes("fish", &["-c"], script);
    let (tree, path) = node();
    let script = script.replace("| string replace -r '\\t.*' ''", "");
    let told = offers("fish", &["-c"], &script, &tree, &path, "mcp stop --al");
    assert_eq!(told, ["--all\tStop everything that runs"]);
}

#[test]
fn completion_in_zsh() {
    if !there("completion_in_zsh", "zsh") {
        return;
    }
    completes("zsh", &["-f", "-c"], include_str!("completion/ask.zsh"));
}
