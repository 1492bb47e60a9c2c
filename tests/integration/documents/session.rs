//! Runs the commands of a page as somebody would who follows it: one after the other in one shell,
//! those that stay in a terminal of their own.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::pages::{Block, page};

/// How long a page may take.
const PATIENCE: Duration = Duration::from_secs(100);

/// How a page is followed. A block is named by how it begins.
#[derive(Default)]
pub(super) struct Session {
    pub(super) page: &'static str,
    /// Texts of the page and what stands for them here: ports, ids, secrets.
    pub(super) replace: Vec<(&'static str, String)>,
    /// Variables that the page takes for granted.
    pub(super) variables: Vec<(&'static str, String)>,
    /// Blocks that stay, each with the terminal and what they say when they are ready. A block
    /// ends the one that ran in its terminal before.
    pub(super) stays: &'static [(&'static str, &'static str, &'static str)],
    /// What must be said after a block: by which block (the same, where it is empty), and what.
    pub(super) says: &'static [(&'static str, &'static str, &'static str)],
    /// Blocks that are not run, each with the reason.
    pub(super) not_run: &'static [(&'static str, &'static str)],
}

/// The commands of a page.
pub(super) fn commands(path: &str) -> Vec<Block> {
    page(path).blocks().into_iter().filter(|block| block.language == "sh").collect()
}

impl Session {
    /// Follows the page in a folder.
    pub(super) async fn follow(self, folder: &Path) {
        let script = self.script();
        let mut command = Command::new("bash");
        command.arg("-c").arg(&script).current_dir(folder).kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("MORTISE") {
                command.env_remove(name);
            }
        }
        let program = Path::new(env!("CARGO_BIN_EXE_mortise")).parent().expect("a folder");
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", program.display()));
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = tokio::time::timeout(PATIENCE, command.output()).await;
        let output = output.unwrap_or_else(|_| panic!("{} takes too long", self.page));
        let output = output.expect("bash");
        assert!(
            output.status.success(),
            "{} cannot be followed: {}\n{}\n{}",
            self.page,
            output.status,
            String::from_utf8_lossy(&output.stderr),
            told(folder),
        );
    }

    /// The page as a script.
    fn script(&self) -> String {
        let blocks = commands(self.page);
        let known = |start: &str| {
            let found: Vec<usize> =
                (0..blocks.len()).filter(|place| blocks[*place].text.starts_with(start)).collect();
            assert!(!found.is_empty(), "{}: no block begins with {start:?}", self.page);
            found
        };
        for start in (self.stays.iter().map(|(start, ..)| start))
            .chain(self.says.iter().map(|(start, ..)| start))
            .chain(self.not_run.iter().map(|(start, _)| start))
        {
            known(start);
        }
        let mut script = String::from(PROLOGUE);
        for (place, block) in blocks.iter().enumerate() {
            let is = |start: &&str| block.text.starts_with(start);
            if self.not_run.iter().any(|(start, _)| is(start)) {
                continue;
            }
            let mut text = block.text.trim_end().to_owned();
            for (from, to) in &self.replace {
                text = text.replace(from, to);
            }
            // Writing to a text never fails.
            let _infallible = writeln!(script, "BLOCK='{}:{}'", self.page, block.line);
            let _infallible = match self.stays.iter().find(|(start, ..)| is(start)) {
                Some((_, terminal, ready)) => writeln!(
                    script,
                    "leave {terminal}\n(exec {text}\n) >out-{place} 2>&1 </dev/null &\n\
                     stay {terminal} $!\nsaid out-{place} '{ready}'"
                ),
                None => writeln!(script, "{{\n{text}\n}} >out-{place} 2>&1 </dev/null"),
            };
            for (_, who, what) in self.says.iter().filter(|(start, ..)| is(start)) {
                // The last one that begins so and has run by now.
                let who = if who.is_empty() { vec![place] } else { known(who) };
                let who = who.into_iter().rfind(|other| *other <= place).expect("it ran before");
                let _infallible = writeln!(script, "said out-{who} '{what}'");
            }
        }
        script
    }
}

/// Terminals, and waiting until something is said in one.
const PROLOGUE: &str = r#"
set -euo pipefail
declare -A TERMINALS=()
BLOCK=none
leave() {
    local process=${TERMINALS[$1]:-}
    if [ -n "$process" ]; then
        kill -TERM "$process" 2>/dev/null || true
        wait "$process" || true
        unset "TERMINALS[$1]"
    fi
}
stay() { TERMINALS[$1]=$2; }
said() {
    for _ in $(seq 600); do
        if grep -qF -- "$2" "$1"; then return 0; fi
        sleep 0.1
    done
    echo "$1 never says: $2" >&2
    return 1
}
finish() {
    local status=$?
    for terminal in "${!TERMINALS[@]}"; do leave "$terminal"; done
    if [ $status != 0 ]; then echo "the block at $BLOCK failed" >&2; fi
    exit $status
}
trap finish EXIT
"#;

/// Everything that was said, for the message of a failure.
fn told(folder: &Path) -> String {
    let mut text = String::new();
    for number in 0..100 {
        if let Ok(said) = std::fs::read_to_string(folder.join(format!("out-{number}"))) {
            let _infallible = writeln!(text, "-- out-{number}\n{said}");
        }
    }
    text
}
