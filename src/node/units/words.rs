//! Names of services, and words of a shell, as the files of several inits have them.

use super::plan::{Plan, Stage, Unit};

/// The name of a component's service. It has a `_`, as no other name of ours has before its last part.
pub fn service(unit: &Unit) -> String {
    format!("mcp-{}", unit.name)
}

/// The name of a stage's service.
pub fn gate(stage: &Stage) -> String {
    format!("mcp-stage-{}", stage.name)
}

/// `text` as one word of a shell.
pub fn sh(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+,:@=%".contains(&b);
    match !text.is_empty() && text.bytes().all(plain) {
        true => text.to_string(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// One of our programs and the node that it shall see, as words of a shell.
pub fn ours(plan: &Plan, program: &str) -> String {
    let root = plan.root.as_ref().map(|root| format!(" --root {}", sh(&root.display().to_string())));
    format!("{}{}", sh(&plan.program(program)), root.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_shell() {
        assert_eq!(sh("/usr/bin/mcp-run"), "/usr/bin/mcp-run");
        assert_eq!(sh("/a b'c"), "'/a b'\\''c'");
        assert_eq!(sh(""), "''");
    }
}
