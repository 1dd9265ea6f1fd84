//! Scripts that complete the command line.

use crate::site::{Site, finish};

#[tokio::test]
async fn every_shell_has_a_script() {
    let site = Site::new();
    for (shell, mark) in [
        ("bash", "complete -F _sortie"),
        ("zsh", "#compdef sortie"),
        ("fish", "complete -c sortie"),
        ("elvish", "edit:completion:arg-completer[sortie]"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let finished = site.run(&["completions", shell]).await;
        assert_eq!(finished.code, Some(0), "{shell}: {}", finished.stderr);
        assert!(finished.stdout.contains(mark), "{shell}: {}", finished.stdout);
    }
    let unknown = site.run(&["completions", "cmd"]).await;
    assert!(unknown.code == Some(2) && unknown.stderr.contains("bash"), "{}", unknown.stderr);
}

/// What bash offers after these words.
async fn offered(site: &Site, words: &[&str]) -> Vec<String> {
    let mut command = site.command("bash");
    let script = "set -eu; source sortie.bash; COMP_WORDS=(sortie \"$@\"); COMP_CWORD=$#; COMPREPLY=(); \
        _sortie sortie \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD-1]}\" || true; \
        printf '%s\\n' \"${COMPREPLY[@]}\"";
    command.args(["--norc", "--noprofile", "-c", script, "bash"]).args(words);
    let finished = finish(command).await;
    assert_eq!(finished.code, Some(0), "{words:?}: {}", finished.stderr);
    finished.stdout.split_whitespace().map(ToOwned::to_owned).collect()
}

#[tokio::test]
async fn bash_offers_what_there_is() {
    let site = Site::new();
    std::fs::write(site.path("sortie.bash"), site.run(&["completions", "bash"]).await.stdout).unwrap();
    let mut check = site.command("bash");
    check.args(["-n", "sortie.bash"]);
    let checked = finish(check).await;
    assert_eq!((checked.code, checked.stderr.as_str()), (Some(0), ""));
    assert_eq!(offered(&site, &["comp"]).await, ["completions"]);
    let commands = offered(&site, &[""]).await;
    for name in ["up", "demo", "match", "config", "completions"] {
        assert!(commands.iter().any(|one| one == name), "{name} is not in {commands:?}");
    }
    assert_eq!(offered(&site, &["config", "im"]).await, ["import-catena"]);
    assert_eq!(offered(&site, &["config", "reference", "--format", "m"]).await, ["markdown"]);
}
