#![allow(clippy::unwrap_used)]

use k8s_openapi::api::core::v1::PodStatus;
use proptest::prelude::*;
use serde_json::json;

use super::*;

const NOW: &str = "2026-01-02T03:04:05Z";

fn options(query: &str) -> Result<LogOptions, Invalid> {
    let pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|p| !p.is_empty())
        .map(|p| p.split_once('=').map(|(k, v)| (k.into(), v.into())).unwrap())
        .collect();
    parse(&pairs, NOW.parse().unwrap(), true)
}

#[test]
fn queries_are_read() {
    let all = options("follow=true&previous=1&timestamps=&tailLines=3&limitBytes=7&sinceSeconds=5&stream=All&other=x")
        .unwrap();
    assert!(all.follow && all.previous && all.timestamps);
    assert_eq!((all.tail, all.limit_bytes), (Some(3), Some(7)));
    assert_eq!(all.since, Some("2026-01-02T03:04:00Z".parse().unwrap()));
    let off = options(
        "follow=false&timestamps=0&sinceTime=2026-01-01T00:00:00%2B01:00"
            .replace("%2B", "+")
            .as_str(),
    )
    .unwrap();
    assert_eq!((off.follow, off.timestamps), (false, false));
    assert_eq!(off.since, Some("2025-12-31T23:00:00Z".parse().unwrap()));
    assert_eq!(options("sinceTime=null").unwrap().since, None);
    // The older name wins, and "all" is no limit.
    assert_eq!(options("tail=2&tailLines=3").unwrap().tail, Some(2));
    assert_eq!(options("tail=all&tailLines=3").unwrap().tail, None);
    assert_eq!(options("tailLines=0").unwrap().tail, Some(0));
    assert_eq!(options("stream=Stderr").unwrap().streams, LogStreams::Stderr);
}

#[test]
fn wrong_queries_are_refused() {
    for query in [
        "tailLines=x",
        "tailLines=",
        "limitBytes=1.5",
        "sinceTime=yesterday",
        "tail=some",
    ] {
        assert_eq!(options(query), Err(Invalid::Undecodable), "{query}");
    }
    for query in [
        "tailLines=-1",
        "limitBytes=0",
        "sinceSeconds=0",
        "sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z",
        "stream=Stdout&tailLines=1",
        "stream=stdout",
    ] {
        assert_eq!(options(query), Err(Invalid::Forbidden), "{query}");
    }
    let stdout = [("stream".to_owned(), "Stdout".to_owned())];
    assert_eq!(parse(&stdout, NOW.parse().unwrap(), false), Err(Invalid::Stream));
}

#[test]
fn the_container_is_chosen_from_the_status() {
    let terminated = |id: &str| json!({ "terminated": { "exitCode": 0, "containerID": id } });
    let waiting = |reason: &str| json!({ "waiting": { "reason": reason } });
    let running = json!({ "running": {} });
    let none = json!({});
    let wait = |text: &str| Err(format!(r#"container "app" in pod "web" is waiting to start{text}"#));
    let err = |text: &str| Err(text.to_owned());
    let ended = r#"container "app" in pod "web" is terminated"#;
    let no_previous = r#"previous terminated container "app" in pod "web" not found"#;
    let table = [
        (&running, &none, false, Ok("now")),
        (&running, &none, true, err(no_previous)),
        (&running, &terminated("before"), true, Ok("before")),
        (&terminated("t"), &terminated("before"), false, Ok("t")),
        (&terminated(""), &terminated("before"), false, Ok("before")),
        (&terminated(""), &none, false, err(ended)),
        (&waiting("CrashLoopBackOff"), &terminated("before"), false, Ok("before")),
        (&waiting("CrashLoopBackOff"), &terminated(""), false, err(ended)),
        (&waiting("CrashLoopBackOff"), &terminated(""), true, err(no_previous)),
        (&waiting("ErrImagePull"), &none, false, wait(": image can't be pulled")),
        (
            &waiting("ImagePullBackOff"),
            &none,
            false,
            wait(": trying and failing to pull image"),
        ),
        (&waiting("ContainerCreating"), &none, false, wait(": ContainerCreating")),
        (&none, &none, false, wait(" - no logs yet")),
    ];
    for (state, last, previous, expected) in table {
        for list in [
            "containerStatuses",
            "initContainerStatuses",
            "ephemeralContainerStatuses",
        ] {
            let container = json!({
                "name": "app", "image": "i", "imageID": "", "ready": false, "restartCount": 1,
                "containerID": "now", "state": state, "lastState": last,
            });
            let status: PodStatus = serde_json::from_value(json!({ list: [container] })).unwrap();
            assert_eq!(
                select("web", &status, "app", previous),
                expected,
                "{state} {last} {previous}"
            );
        }
    }
    let nothing = PodStatus::default();
    let unknown = select("web", &nothing, "app", false);
    assert_eq!(unknown.unwrap_err(), r#"container "app" in pod "web" is not available"#);
}

const LOG: &str = "\
2026-01-01T00:00:01.5Z stdout F one\n\
2026-01-01T00:00:02.123456789+02:00 stderr F two\n\
2026-01-01T00:00:03Z stdout P thr\n\
2026-01-01T00:00:04Z stdout P:x e\n\
2026-01-01T00:00:05Z stdout F e\n\
this is no line of a log\n\
2026-01-01T00:00:06Z stdout F \n\
2026-01-01T00:00:07Z stdout F:tag last";

fn read(log: &str, query: &str, block: usize) -> Result<String, UnknownFormat> {
    let options = options(query).unwrap();
    let bytes = log.as_bytes();
    let start = match options.tail {
        None => 0,
        Some(lines) => {
            let slice = |offset: u64, length: usize| {
                let offset = usize::try_from(offset).unwrap();
                Ok::<_, ()>(bytes[offset..offset + length].to_vec())
            };
            usize::try_from(tail_start(bytes.len() as u64, lines, 7, slice).unwrap()).unwrap()
        }
    };
    let mut decoder = Decoder::new(&options);
    let (mut out, mut pending) = (Vec::new(), Vec::new());
    for piece in bytes[start..].chunks(block) {
        pending.extend_from_slice(piece);
        let fed = decoder.feed(&pending, false, &mut out)?;
        pending.drain(..fed.consumed);
        if fed.done {
            return Ok(String::from_utf8(out).unwrap());
        }
    }
    decoder.feed(&pending, true, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn logs_are_read_as_the_kubelet_reads_them() {
    let cases = [
        ("", "one\ntwo\nthree\n\nlast"),
        (
            "timestamps=1",
            "2026-01-01T00:00:01.500000000Z one\n2026-01-01T00:00:02.123456789+02:00 two\n2026-01-01T00:00:03.000000000Z three\n2026-01-01T00:00:06.000000000Z \n2026-01-01T00:00:07.000000000Z last",
        ),
        ("stream=Stderr", "two\n"),
        ("limitBytes=6", "one\ntw"),
        ("limitBytes=4&timestamps=1", "2026"),
        // Inclusive, and by moment: two is the oldest.
        ("sinceTime=2026-01-01T00:00:06Z", "\nlast"),
        // Raw lines count. The last one has no end yet, so one more is looked at; but what is no line does not count.
        ("tailLines=3", "e\n\nlast"),
        ("tailLines=0", ""),
        ("tailLines=100", "one\ntwo\nthree\n\nlast"),
        ("tailLines=100&limitBytes=1", "o"),
    ];
    for (query, expected) in cases {
        for block in [1, 10, 64, 10_000] {
            assert_eq!(
                read(LOG, query, block).unwrap(),
                expected,
                "{query} in blocks of {block}"
            );
        }
    }
}

#[test]
fn the_last_lines_are_found() {
    let log: String = (0..100)
        .map(|i| format!("2026-01-01T00:00:00Z stdout F {i}\n"))
        .collect();
    assert_eq!(read(&log, "tailLines=3", 50).unwrap(), "97\n98\n99\n");
    assert_eq!(read(&log, "tailLines=1", 50).unwrap(), "99\n");
    assert_eq!(read("", "tailLines=1", 50).unwrap(), "");
}

#[test]
fn docker_logs_are_read_too() {
    let log = concat!(
        r#"{"log":"one\n","stream":"stdout","time":"2026-01-01T00:00:01.5Z"}"#,
        "\nbroken\n",
        r#"{"log":"two\n","stream":"stderr","time":"2026-01-01T00:00:02Z"}"#,
        "\n"
    );
    assert_eq!(read(log, "", 7).unwrap(), "one\ntwo\n");
    assert_eq!(
        read(log, "stream=Stderr&timestamps=1", 7).unwrap(),
        "2026-01-01T00:00:02.000000000Z two\n"
    );
}

#[test]
fn another_format_is_an_error() {
    let error = read("no log\n", "", 10).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"failed to get parse function: unsupported log format: "no log\n""#
    );
}

proptest! {
    /// Whatever stands in the file and however it is cut up: no panic, the same output, no more than asked for.
    #[test]
    fn any_file_can_be_read(
        lines in prop::collection::vec("([0-9T:Z.-]{0,30} (stdout|stderr) [FP:]{0,3} .{0,20}|.{0,40})\n", 0..20),
        block in 1usize..50,
        limit in 1u64..200,
    ) {
        let log = format!("2026-01-01T00:00:00Z stdout F first\n{}", lines.concat());
        let query = format!("limitBytes={limit}");
        let out = read(&log, "timestamps=1", block);
        prop_assert_eq!(&out, &read(&log, "timestamps=1", usize::MAX));
        let options = options(&query).unwrap();
        let mut cut = Vec::new();
        Decoder::new(&options).feed(log.as_bytes(), true, &mut cut).unwrap();
        prop_assert!(cut.len() as u64 <= limit);
    }
}
