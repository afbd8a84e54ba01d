use crate::broker::ottla;

fn stdout(output: &std::process::Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn config_check_warns_by_name_and_refuses_wrong_values() {
    let good = ottla(&["config", "check", "--set", "num.partitions=3"]);
    assert_eq!((good.status.code(), stdout(&good).as_str()), (Some(0), "ok: 1 properties\n"));
    let typo = ottla(&["config", "check", "--set", "num.partition=3"]);
    assert_eq!(typo.status.code(), Some(0));
    assert!(stdout(&typo).starts_with("warning: unknown configuration num.partition"), "{}", stdout(&typo));
    let wrong = ottla(&["config", "check", "--set", "num.partitions=none"]);
    assert_eq!((wrong.status.code(), stdout(&wrong).as_str()), (Some(2), ""));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("num.partitions"));
}

#[test]
fn config_check_reads_a_file_and_answers_in_json() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("server.properties");
    std::fs::write(&file, "num.partitions = 3\nzookeeper.connect=localhost:2181\n").unwrap();
    let output =
        ottla(&["config", "check", file.to_str().unwrap(), "--set", "num.partitions=5", "--output", "json"]);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["properties"]["num.partitions"], "5");
    assert_eq!(answer["warnings"].as_array().unwrap().len(), 1);
    // Passwords are not shown, nor what may be one with a typing error in its name.
    let secrets = ["--set", "sasl.jaas.config=secret", "--set", "sasl.jas.config=secret"];
    let output = ottla(&[&["config", "check", "--output", "json"][..], &secrets].concat());
    let shown = stdout(&output);
    assert!(shown.contains("[hidden]") && !shown.contains("secret"), "{shown}");
}

#[test]
fn usage_errors_have_their_own_exit_code() {
    assert_eq!(ottla(&[]).status.code(), Some(2));
    assert_eq!(ottla(&["no-such-verb"]).status.code(), Some(2));
    assert_eq!(ottla(&["--version"]).status.code(), Some(0));
}

#[test]
fn completion_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = ottla(&["completion", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(stdout(&output).contains("serve"), "{shell}");
    }
}
