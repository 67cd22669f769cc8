//! What docs/scale.md shows to other engines: the commands of its Nomad job, run as Nomad would run them.

use super::text;
use crate::docs::blocks::blocks;
use crate::harness::{Node, finish, free_port, get, nanos, until, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// The job file of the page.
fn job() -> Vec<String> {
    let page = text("docs/scale.md");
    let block = blocks(&page).into_iter().find(|b| b.lines.first().is_some_and(|(_, line)| line.starts_with("job ")));
    block.expect("docs/scale.md has no job").lines.into_iter().map(|(_, line)| line).collect()
}

/// The values of a key, in order, without quotes.
fn values(job: &[String], key: &str) -> Vec<String> {
    let of = |line: &String| line.trim().split_once('=').filter(|(k, _)| k.trim() == key).map(|(_, v)| v.trim().into());
    let plain = |v: String| v.trim_matches('"').to_string();
    job.iter().filter_map(of).map(plain).collect()
}

/// Its commands with their arguments, by the program.
fn command(node: &Node, job: &[String], program: &str) -> Command {
    let at = values(job, "command").iter().position(|c| c.strip_prefix("/usr/bin/") == Some(program));
    let args = values(job, "args")[at.unwrap_or_else(|| panic!("the job does not call {program}"))].clone();
    let args: Vec<String> = serde_json::from_str(&args).unwrap();
    node.command(program, &args.iter().map(String::as_str).collect::<Vec<_>>())
}

fn seconds(value: &str) -> Duration {
    Duration::from_secs(value.trim_end_matches('s').parse().unwrap())
}

#[test]
fn docs_scale_has_a_job_whose_commands_do_what_it_says() {
    let Some(image) = nanos("docs_scale_has_a_job_whose_commands_do_what_it_says", &[]) else { return };
    let (node, port, job) = (Node::new(), free_port(), job());
    let define = |memory: u32| {
        let text = format!(
            "name = \"web\"\nplacement = \"cluster\"\n[[components]]\nname = \"vm\"\nruntime = \"unikernel\"\n\
             disk = \"{}\"\nkernel = \"{}\"\nmemory_mb = {memory}\n\
             ports = [\"127.0.0.1:{port}:8080\"]\n",
            image.disk, image.kernel
        );
        node.define("web", &text);
        node.mcp("mcp-record", &["--new", "--now", "web"]).expect(0);
    };
    let check = || finish(command(&node, &job, "mcp-health"), "the check").code;
    let installed = || finish(command(&node, &job, "mcp-status"), "the first task");
    let refused = installed().expect(1);
    assert!(refused.err.contains("web"), "{refused:?}");
    define(128);
    installed().expect(0);
    // No boot of this node starts it.
    node.configure("[[boot.sequence]]\nname = \"all\"\nservices = [\"web\"]\n");
    node.mcp("mcp-boot", &[]).expect(0);
    assert_eq!(node.supervisor("web/vm"), 0);
    assert_eq!(check(), Some(2), "1 would be a warning");

    let began = Instant::now();
    let mut task = command(&node, &job, "mcp-run").process_group(0).spawn().unwrap();
    until("the check passes", || check() == Some(0));
    assert_eq!(node.supervisor("web/vm"), task.id() as i32, "the task is the supervisor");
    let (before, pid) = (node.state("web/vm")["uuid"].clone(), Pid::from_raw(task.id() as i32));

    // nomad alloc signal -s SIGHUP, after a new record.
    define(160);
    kill(pid, Signal::SIGHUP).unwrap();
    until("replaced", || node.state("web/vm")["uuid"] != before && task.try_wait().unwrap().is_none());
    assert_eq!(node.supervisor("web/vm"), pid.as_raw(), "by the same task");
    until("it serves", || get(port, "/").is_some());

    // The end, by the job's own signal and in its own time.
    let limit = seconds(&values(&job, "kill_timeout")[0]);
    assert!(limit > Duration::from_secs(35 + 3), "stop_timeout's default, quit and kill fit in");
    kill(pid, Signal::from_str(&values(&job, "kill_signal")[0]).unwrap()).unwrap();
    let stopped = Instant::now();
    let answer = wait(task, "the task", began);
    assert!(stopped.elapsed() < limit, "{answer:#?}");
    assert_eq!(answer.code, Some(0), "{answer:#?}");
    assert_eq!(check(), Some(2));
    assert!(node.processes().is_empty(), "{:?}", node.processes());

    // What dies is a failure of the task, and nobody but the engine starts it again.
    let task = command(&node, &job, "mcp-run").process_group(0).spawn().unwrap();
    until("the check passes", || check() == Some(0));
    kill(Pid::from_raw(node.qemu("web/vm")), Signal::SIGKILL).unwrap();
    let answer = wait(task, "the task", Instant::now());
    assert!(!matches!(answer.code, None | Some(0)), "{answer:#?}");
    assert!(node.processes().is_empty(), "{:?}", node.processes());
}
