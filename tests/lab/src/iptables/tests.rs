#![allow(clippy::unwrap_used)]
use std::path::Path;

use super::*;

const LISTING: &str = r#"-P PREROUTING ACCEPT
-N CNI-7f3e1d8a9b6c5e4f7a8b9c0d
-N CNI-aaaaaaaaaaaaaaaaaaaaaaaa
-N CNI-DN-7f3e1d8a9b6c5e4f7a8b9
-N CNI-HOSTPORT-DNAT
-N CNI-HOSTPORT-MASQ
-N CNI-HOSTPORT-SETMARK
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ
-A POSTROUTING -s 10.191.169.2/32 -m comment --comment "name: \"wl3fa9\" id: \"c1\"" -j CNI-7f3e1d8a9b6c5e4f7a8b9c0d
-A POSTROUTING -s 10.88.0.2/32 -m comment --comment "name: \"podman\" id: \"c2\"" -j CNI-aaaaaaaaaaaaaaaaaaaaaaaa
-A CNI-7f3e1d8a9b6c5e4f7a8b9c0d -d 10.191.169.0/24 -m comment --comment "name: \"wl3fa9\" id: \"c1\"" -j ACCEPT
-A CNI-7f3e1d8a9b6c5e4f7a8b9c0d ! -d 224.0.0.0/4 -m comment --comment "name: \"wl3fa9\" id: \"c1\"" -j MASQUERADE
-A CNI-DN-7f3e1d8a9b6c5e4f7a8b9 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.191.169.2:80
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"wl3fa9\" id: \"c1\"" -m multiport --dports 8080 -j CNI-DN-7f3e1d8a9b6c5e4f7a8b9
-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE
"#;

fn names() -> Names {
    Names::of(Path::new("/tmp/wl-3fa9")).unwrap()
}

#[test]
fn only_the_labs_own_rules_go() {
    let commands: Vec<String> = commands(LISTING, &names()).into_iter().map(|w| w.join(" ")).collect();
    assert_eq!(
        commands,
        [
            r#"-D POSTROUTING -s 10.191.169.2/32 -m comment --comment name: "wl3fa9" id: "c1" -j CNI-7f3e1d8a9b6c5e4f7a8b9c0d"#,
            r#"-D CNI-HOSTPORT-DNAT -p tcp -m comment --comment dnat name: "wl3fa9" id: "c1" -m multiport --dports 8080 -j CNI-DN-7f3e1d8a9b6c5e4f7a8b9"#,
            "-F CNI-7f3e1d8a9b6c5e4f7a8b9c0d",
            "-F CNI-DN-7f3e1d8a9b6c5e4f7a8b9",
            "-X CNI-7f3e1d8a9b6c5e4f7a8b9c0d",
            "-X CNI-DN-7f3e1d8a9b6c5e4f7a8b9",
        ]
    );
}

#[test]
fn the_comment_stays_one_word() {
    let words = split(r#"-A X -m comment --comment "name: \"wl3fa9\" id: \"c1\"" -j Y"#);
    assert_eq!(
        words,
        [
            "-A",
            "X",
            "-m",
            "comment",
            "--comment",
            r#"name: "wl3fa9" id: "c1""#,
            "-j",
            "Y"
        ]
    );
}

#[test]
fn shared_chains_stay_while_a_pod_uses_them() {
    assert!(unused(LISTING).is_empty());
    let without: String = LISTING
        .lines()
        .filter(|l| !l.contains("CNI-DN-"))
        .map(|l| format!("{l}\n"))
        .collect();
    let commands: Vec<String> = unused(&without).into_iter().map(|w| w.join(" ")).collect();
    assert_eq!(
        commands[0],
        "-D PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT"
    );
    assert_eq!(
        commands[1],
        "-D POSTROUTING -m comment --comment CNI portfwd requiring masquerade -j CNI-HOSTPORT-MASQ"
    );
    assert_eq!(commands.len(), 2 + 6);
}
