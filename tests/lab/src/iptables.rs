//! The rules that CNI plugins made for one lab.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::Result;

use crate::Names;

const TABLES: [&str; 2] = ["nat", "filter"];

/// Rules as `iptables -S` prints them: those that name an address of the lab's subnet, its bridge or its network, in the order of
/// their removal: a rule goes before the chain it jumps to.
fn commands<'a>(listing: &'a str, names: &Names) -> Vec<Vec<String>> {
    let own = |line: &str| {
        line.contains(&names.subnet_prefix)
            || line
                .split([' ', '"', ':'])
                .any(|word| word == names.bridge || word == names.name)
    };
    let target = |line: &'a str| {
        line.split_once(" -j ")
            .and_then(|(_, rest)| rest.split_whitespace().next())
    };
    let mut out = Vec::new();
    let mut chains = BTreeSet::new();
    for line in listing.lines().filter(|l| l.starts_with("-A ") && own(l)) {
        // A chain per pod, named by a hash: found only by the rules in it or the jump to it.
        let chain = line.split_whitespace().nth(1).unwrap_or_default();
        for name in [Some(chain), target(line)].into_iter().flatten() {
            if is_pod_chain(name) {
                chains.insert(name);
            }
        }
    }
    for line in listing.lines().filter(|l| l.starts_with("-A ")) {
        let chain = line.split_whitespace().nth(1).unwrap_or_default();
        let jumps = target(line).is_some_and(|t| chains.contains(t));
        if (own(line) || jumps) && !chains.contains(chain) {
            let mut words = split(line);
            words[0] = "-D".into();
            out.push(words);
        }
    }
    for flag in ["-F", "-X"] {
        out.extend(chains.iter().map(|chain| vec![flag.to_owned(), (*chain).to_owned()]));
    }
    out
}

/// `CNI-` or `CNI-DN-` and a hash: one pod's. `CNI-HOSTPORT-…` and `CNI-ADMIN` and `CNI-FORWARD` are everybody's.
fn is_pod_chain(name: &str) -> bool {
    let rest = name
        .strip_prefix("CNI-DN-")
        .or_else(|| name.strip_prefix("CNI-SN-"))
        .or_else(|| name.strip_prefix("CNI-"));
    rest.is_some_and(|r| r.len() >= 12 && r.chars().all(|c| c.is_ascii_hexdigit()))
}

/// Words as a shell would split them; `iptables -S` quotes comments and escapes quotes in them.
fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut any) = (Vec::new(), String::new(), false, false);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.extend(chars.next()),
            '"' => (quoted, any) = (!quoted, true),
            ' ' if !quoted => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            c => word.push(c),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

pub(crate) fn remove(names: &Names) -> Result<()> {
    if !crate::has_program("iptables") {
        return Ok(());
    }
    for table in TABLES {
        let listing = crate::output(Command::new("iptables").args(["-w", "-t", table, "-S"]))?;
        for words in commands(&listing, names) {
            crate::output(Command::new("iptables").args(["-w", "-t", table]).args(&words))?;
        }
        // portmap makes chains for everybody and never takes them away.
        let listing = crate::output(Command::new("iptables").args(["-w", "-t", table, "-S"]))?;
        for words in unused(&listing) {
            crate::output(Command::new("iptables").args(["-w", "-t", table]).args(&words))?;
        }
    }
    Ok(())
}

/// Takes away the shared chains of CNI's port mappings once no pod uses them: no `CNI-DN-` chain is left.
fn unused(listing: &str) -> Vec<Vec<String>> {
    const SHARED: [&str; 3] = ["CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-MASQ", "CNI-HOSTPORT-SETMARK"];
    if listing.lines().any(|l| l.starts_with("-N CNI-DN-")) {
        return Vec::new();
    }
    let mut out = Vec::new();
    let exist: Vec<&str> = SHARED
        .into_iter()
        .filter(|c| listing.lines().any(|l| l == format!("-N {c}")))
        .collect();
    for line in listing.lines().filter(|l| l.starts_with("-A ")) {
        let words = split(line);
        if words.windows(2).any(|w| w[0] == "-j" && exist.contains(&w[1].as_str()))
            && !exist.contains(&words[1].as_str())
        {
            out.push([vec!["-D".to_owned()], words[1..].to_vec()].concat());
        }
    }
    for flag in ["-F", "-X"] {
        out.extend(exist.iter().map(|chain| vec![flag.to_owned(), (*chain).to_owned()]));
    }
    out
}

/// Own rules that are still there.
pub(crate) fn left(names: &Names) -> Vec<String> {
    let mut left = Vec::new();
    for table in TABLES {
        if let Ok(listing) = crate::output(Command::new("iptables").args(["-w", "-t", table, "-S"])) {
            left.extend(
                commands(&listing, names)
                    .into_iter()
                    .map(|w| format!("iptables rule in {table}: {}", w.join(" "))),
            );
        }
    }
    left
}

#[cfg(test)]
mod tests;
