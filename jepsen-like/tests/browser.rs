//! The report in a real browser, where there is one: it must draw without an error, and the picture is kept.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A run as it is saved, small.
const SUMMARY: &str = include_str!("summary.json");

fn browser() -> Option<&'static str> {
    let answers = |name: &&str| Command::new(name).arg("--version").output().is_ok();
    BROWSERS.into_iter().find(answers)
}

#[test]
fn the_report_is_drawn_by_a_browser() {
    let Some(browser) = browser() else {
        eprintln!("skipped: no browser is installed ({})", BROWSERS.join(", "));
        return;
    };
    let results: Vec<roost_jepsen::run::RunResult> = serde_json::from_str(SUMMARY).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("report.html");
    fs::write(&page, roost_jepsen::report::html(&results)).unwrap();
    let kept = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("report.png");
    // What an earlier run left must not pass for this one's.
    let _ = fs::remove_file(&kept);
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        .arg(format!("--user-data-dir={}", dir.path().join("profile").display()))
        .arg("--window-size=1100,2400")
        .arg(format!("--screenshot={}", kept.display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let picture = fs::read(&kept).unwrap();
    assert!(picture.starts_with(b"\x89PNG"), "{} is no picture", kept.display());
    // An empty page of this size is some 10 KB; the figures are several times that.
    assert!(picture.len() > 40_000, "only {} bytes: the page is empty", picture.len());
    eprintln!("the picture is {}", kept.display());
}
