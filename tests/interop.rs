//! docs/interop.md against scripts/interop: its table has each system, direction and case that is run, and no other.

use std::fs;
use std::process::Command;

use harness::world::repository;

#[test]
fn the_table_of_systems_is_what_is_run() {
    let page = fs::read_to_string(repository().join("docs/interop.md")).unwrap();
    let (_, rest) = page.split_once("<!-- systems -->\n\n").unwrap();
    let table: String = rest
        .lines()
        .take_while(|line| line.starts_with('|'))
        .map(|line| format!("{line}\n"))
        .collect();
    let run = interop("--table");
    assert!(
        table == run,
        "put what `scripts/interop --table` prints under `<!-- systems -->` in docs/interop.md:\n{run}"
    );
}

#[test]
fn every_case_says_what_is_expected_of_it() {
    for line in interop("--list").lines() {
        let columns: Vec<_> = line.split('|').map(str::trim).collect();
        let [system, direction, case, result, who] = columns[..] else {
            panic!("{line}: it has {} columns, not 5", columns.len());
        };
        assert!(
            ![system, direction, case].contains(&""),
            "{line}: a name is empty"
        );
        match result {
            "served" => {}
            "agreed" => assert!(!who.is_empty(), "{line}: how many?"),
            "refused" => assert!(!who.is_empty(), "{line}: who refuses?"),
            _ => panic!("{line}: not a result"),
        }
    }
}

#[test]
fn every_folder_has_its_parts() {
    for folder in fs::read_dir(repository().join("examples/interop")).unwrap() {
        let folder = folder.unwrap().path();
        if folder.is_dir() {
            for part in ["README.md", "cases", "run"] {
                assert!(
                    folder.join(part).is_file(),
                    "{}: no {part}",
                    folder.display()
                );
            }
        }
    }
}

fn interop(flag: &str) -> String {
    let output = Command::new("bash")
        .arg(repository().join("scripts/interop"))
        .arg(flag)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
