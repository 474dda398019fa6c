//! Core modules in text form. A result longer than a number is written to memory at 1024 and returned by its address:
//! one byte for ok or error, and its value aligned after it.

/// What every guest needs: memory, and room for what it is given.
const PRELUDE: &str = r#"
    (memory (export "memory") 2)
    (global $heap (mut i32) (i32.const 8192))
    (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
        (local $at i32)
        (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
        (global.set $heap (i32.add (local.get $at) (local.get $size)))
        (block $fits
            (br_if $fits (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
            (drop (memory.grow (i32.add (i32.div_u (local.get $size) (i32.const 65536)) (i32.const 1)))))
        (local.get $at))
    ;; `error` case number, with a text
    (func $error (param $case i32) (param $at i32) (param $len i32) (result i32)
        (i32.store8 (i32.const 1024) (i32.const 1))
        (i32.store8 (i32.const 1028) (local.get $case))
        (i32.store (i32.const 1032) (local.get $at))
        (i32.store (i32.const 1036) (local.get $len))
        (i32.const 1024))
    (func $recurse (param i32) (result i32)
        (i32.add (call $recurse (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))
"#;

/// A probe plugin that does what the first letter of `params` says. `message` is what `P` answers.
///
/// P pass · F fail · E error · T trap · L loop for ever · M take all memory · H answer 2 MiB · R recurse · B answer a string
/// that is not in memory · U answer a string that is not UTF-8 · C count the calls of this instance · K keep the handle
pub fn moody_probe(message: &str) -> String {
    let len = message.len();
    format!(
        r#"(module
    (import "witlet:base/objects@0.1.0" "[resource-drop]pod" (func $drop-pod (param i32)))
    (import "witlet:base/objects@0.1.0" "[resource-drop]container" (func $drop-container (param i32)))
    {PRELUDE}
    (data (i32.const 16) {message:?})
    (data (i32.const 512) "the text of an error")
    (data (i32.const 600) "\ff\fe")
    (global $calls (mut i32) (i32.const 0))
    (func $outcome (param $verdict i32) (param $at i32) (param $len i32) (result i32)
        (i32.store8 (i32.const 1024) (i32.const 0))
        (i32.store8 (i32.const 1028) (local.get $verdict))
        (i32.store (i32.const 1032) (local.get $at))
        (i32.store (i32.const 1036) (local.get $len))
        (i32.const 1024))
    (func (export "witlet:probe/probe@0.1.0#check") (param $pod i32) (param $container i32) (param $params i32) (param i32 i32) (result i32)
        (local $mood i32)
        (local.set $mood (i32.load8_u (local.get $params)))
        (call $drop-container (local.get $container))
        (if (i32.eq (local.get $mood) (i32.const 75)) (then
            (return (call $outcome (i32.const 0) (i32.const 16) (i32.const {len})))))
        (call $drop-pod (local.get $pod))
        (if (i32.eq (local.get $mood) (i32.const 80)) (then
            (return (call $outcome (i32.const 0) (i32.const 16) (i32.const {len})))))
        (if (i32.eq (local.get $mood) (i32.const 70)) (then
            (return (call $outcome (i32.const 2) (i32.const 16) (i32.const {len})))))
        (if (i32.eq (local.get $mood) (i32.const 69)) (then
            (return (call $error (i32.const 0) (i32.const 512) (i32.const 20)))))
        (if (i32.eq (local.get $mood) (i32.const 84)) (then (unreachable)))
        (if (i32.eq (local.get $mood) (i32.const 76)) (then (loop $for-ever (br $for-ever))))
        (if (i32.eq (local.get $mood) (i32.const 77)) (then
            (loop $more (drop (memory.grow (i32.const 16))) (br $more))))
        (if (i32.eq (local.get $mood) (i32.const 72)) (then
            (drop (memory.grow (i32.const 40)))
            (return (call $outcome (i32.const 0) (i32.const 131072) (i32.const 2097152)))))
        (if (i32.eq (local.get $mood) (i32.const 82)) (then (drop (call $recurse (i32.const 0)))))
        (if (i32.eq (local.get $mood) (i32.const 66)) (then
            (return (call $outcome (i32.const 0) (i32.const -16) (i32.const 1024)))))
        (if (i32.eq (local.get $mood) (i32.const 85)) (then
            (return (call $outcome (i32.const 0) (i32.const 600) (i32.const 2)))))
        (if (i32.eq (local.get $mood) (i32.const 67)) (then
            (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
            (i32.store8 (i32.const 700) (i32.add (global.get $calls) (i32.const 48)))
            (return (call $outcome (i32.const 0) (i32.const 700) (i32.const 1)))))
        (unreachable)))"#
    )
}

/// A probe plugin that runs `params` in the container and answers with its output.
pub fn exec_probe() -> String {
    format!(
        r#"(module
    (import "witlet:base/objects@0.1.0" "[resource-drop]pod" (func $drop-pod (param i32)))
    (import "witlet:base/objects@0.1.0" "[resource-drop]container" (func $drop-container (param i32)))
    (import "witlet:probe/container-exec@0.1.0" "run" (func $run (param i32 i32 i32 i32 i32)))
    {PRELUDE}
    (func (export "witlet:probe/probe@0.1.0#check") (param $pod i32) (param $container i32) (param $params i32) (param $len i32) (param $ms i32) (result i32)
        (call $drop-pod (local.get $pod))
        ;; argv: one string
        (i32.store (i32.const 64) (local.get $params))
        (i32.store (i32.const 68) (local.get $len))
        (call $run (local.get $container) (i32.const 64) (i32.const 1) (local.get $ms) (i32.const 128))
        (call $drop-container (local.get $container))
        (if (i32.load8_u (i32.const 128)) (then
            (return (call $error (i32.load8_u (i32.const 132)) (i32.load (i32.const 136)) (i32.load (i32.const 140))))))
        ;; output: exit code, stdout, stderr
        (i32.store8 (i32.const 1024) (i32.const 0))
        (i32.store8 (i32.const 1028) (i32.const 0))
        (i32.store (i32.const 1032) (i32.load (i32.const 136)))
        (i32.store (i32.const 1036) (i32.load (i32.const 140)))
        (i32.const 1024)))"#
    )
}

/// A probe plugin that connects to port 80 and says why it cannot.
pub fn connecting_probe() -> String {
    format!(
        r#"(module
    (import "witlet:base/objects@0.1.0" "[resource-drop]pod" (func $drop-pod (param i32)))
    (import "witlet:base/objects@0.1.0" "[resource-drop]container" (func $drop-container (param i32)))
    (import "witlet:probe/pod-net@0.1.0" "tcp-connect" (func $connect (param i32 i32 i32 i32 i32 i32 i32)))
    (import "witlet:probe/pod-net@0.1.0" "[resource-drop]connection" (func $drop-connection (param i32)))
    {PRELUDE}
    (func (export "witlet:probe/probe@0.1.0#check") (param $pod i32) (param $container i32) (param i32 i32) (param $ms i32) (result i32)
        (call $connect (local.get $pod) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 81) (local.get $ms) (i32.const 128))
        (call $drop-pod (local.get $pod))
        (call $drop-container (local.get $container))
        (if (i32.load8_u (i32.const 128)) (then
            (return (call $error (i32.load8_u (i32.const 132)) (i32.load (i32.const 136)) (i32.load (i32.const 140))))))
        (call $drop-connection (i32.load (i32.const 132)))
        (i32.store (i32.const 1024) (i32.const 0))
        (i32.store (i32.const 1028) (i32.const 0))
        (i32.store (i32.const 1036) (i32.const 0))
        (i32.const 1024)))"#
    )
}

/// With `self-check`: it fails with `text`, or passes without one.
pub fn checking_probe(text: &str) -> String {
    let len = text.len();
    let failed = u8::from(!text.is_empty());
    let moody = moody_probe("checked");
    let moody = moody.strip_suffix(')').unwrap();
    format!(
        r#"{moody}
    (data (i32.const 2048) {text:?})
    (func (export "witlet:lifecycle/self-check@0.1.0#run") (result i32)
        (i32.store (i32.const 1024) (i32.const {failed}))
        (i32.store (i32.const 1028) (i32.const 2048))
        (i32.store (i32.const 1032) (i32.const {len}))
        (i32.const 1024)))"#
    )
}

/// A policy that denies every pod with this reason, or allows it if the reason is empty; always with one warning.
pub fn policy(reason: &str) -> String {
    let (len, denied) = (reason.len(), u8::from(!reason.is_empty()));
    format!(
        r#"(module
    (import "witlet:base/objects@0.1.0" "[resource-drop]pod" (func $drop-pod (param i32)))
    {PRELUDE}
    (data (i32.const 16) {reason:?})
    (data (i32.const 256) "the message")
    (data (i32.const 300) "a warning")
    (func (export "witlet:policy/admission@0.1.0#admit-pod") (param $pod i32) (result i32)
        (call $drop-pod (local.get $pod))
        (i32.store (i32.const 320) (i32.const 300))
        (i32.store (i32.const 324) (i32.const 9))
        (i32.store8 (i32.const 1024) (i32.const 0))
        ;; decision: its case, then the denial's reason and message
        (i32.store8 (i32.const 1028) (i32.const {denied}))
        (i32.store (i32.const 1032) (i32.const 16))
        (i32.store (i32.const 1036) (i32.const {len}))
        (i32.store (i32.const 1040) (i32.const 256))
        (i32.store (i32.const 1044) (i32.const 11))
        ;; warnings
        (i32.store (i32.const 1048) (i32.const 320))
        (i32.store (i32.const 1052) (i32.const 1))
        (i32.const 1024)))"#
    )
}

/// A policy that traps.
pub fn broken_policy() -> String {
    format!(
        r#"(module {PRELUDE}
    (func (export "witlet:policy/admission@0.1.0#admit-pod") (param i32) (result i32) (unreachable)))"#
    )
}

/// A log sink that takes everything of up to `most` entries, and answers `unavailable` otherwise.
pub fn log_sink(most: u32) -> String {
    format!(
        r#"(module {PRELUDE}
    (data (i32.const 16) "try again")
    (func (export "witlet:sink-log/sink@0.1.0#push") (param i32) (param $len i32) (result i32)
        (if (i32.gt_u (local.get $len) (i32.const {most})) (then
            (return (call $error (i32.const 3) (i32.const 16) (i32.const 9)))))
        (i32.store8 (i32.const 1024) (i32.const 0))
        (i32.const 1024)))"#
    )
}

/// A metric sink that refuses a batch without families.
pub fn metric_sink() -> String {
    format!(
        r#"(module {PRELUDE}
    (data (i32.const 16) "nothing")
    (func (export "witlet:sink-metric/sink@0.1.0#push") (param i64 i32) (param $len i32) (result i32)
        (if (i32.eqz (local.get $len)) (then
            (return (call $error (i32.const 0) (i32.const 16) (i32.const 7)))))
        (i32.store8 (i32.const 1024) (i32.const 0))
        (i32.const 1024)))"#
    )
}

/// A volume plugin that makes the volume's directory with mode 0777 and one file in it, and says that it is at `host_path`, or
/// in its own directory if that is empty.
pub fn volume(host_path: &str) -> String {
    let (len, some) = (host_path.len(), u8::from(!host_path.is_empty()));
    format!(
        r#"(module
    (import "witlet:base/objects@0.1.0" "[resource-drop]pod" (func $drop-pod (param i32)))
    (import "witlet:volume/files@0.1.0" "[resource-drop]volume-dir" (func $drop-dir (param i32)))
    (import "witlet:volume/files@0.1.0" "[method]volume-dir.create" (func $create (param i32 i32 i32)))
    (import "witlet:volume/files@0.1.0" "[method]volume-dir.write" (func $write (param i32 i32 i32 i32 i32 i32 i32)))
    (import "witlet:volume/files@0.1.0" "[method]volume-dir.set-ready" (func $set-ready (param i32 i32 i32)))
    (import "witlet:volume/files@0.1.0" "[method]volume-dir.destroy" (func $destroy (param i32 i32)))
    {PRELUDE}
    (data (i32.const 16) "file")
    (data (i32.const 32) "content")
    (data (i32.const 256) {host_path:?})
    (func $done (param $dir i32) (result i32)
        (call $drop-dir (local.get $dir))
        ;; What the host answered, if it was an error.
        (if (i32.load8_u (i32.const 128)) (then
            (return (call $error (i32.load8_u (i32.const 132)) (i32.load (i32.const 136)) (i32.load (i32.const 140))))))
        (i32.store8 (i32.const 1024) (i32.const 0))
        (i32.store8 (i32.const 1028) (i32.const {some}))
        (i32.store (i32.const 1032) (i32.const 256))
        (i32.store (i32.const 1036) (i32.const {len}))
        ;; not read-only, follows its source
        (i32.store8 (i32.const 1040) (i32.const 0))
        (i32.store8 (i32.const 1041) (i32.const 1))
        (i32.const 1024))
    (func (export "witlet:volume/driver@0.1.0#publish") (param $pod i32) (param i32 i32) (param $dir i32) (result i32)
        (call $drop-pod (local.get $pod))
        (call $create (local.get $dir) (i32.const 511) (i32.const 128))
        (if (i32.load8_u (i32.const 128)) (then (return (call $done (local.get $dir)))))
        (call $write (local.get $dir) (i32.const 16) (i32.const 4) (i32.const 32) (i32.const 7) (i32.const 420) (i32.const 128))
        (if (i32.load8_u (i32.const 128)) (then (return (call $done (local.get $dir)))))
        (call $set-ready (local.get $dir) (i32.const 1) (i32.const 128))
        (call $done (local.get $dir)))
    (func (export "witlet:volume/driver@0.1.0#unpublish") (param $dir i32) (result i32)
        (call $set-ready (local.get $dir) (i32.const 0) (i32.const 128))
        (call $destroy (local.get $dir) (i32.const 128))
        (call $done (local.get $dir))))"#
    )
}

/// A network plugin that answers with this CNI result and this program for its offline teardown. Teardown fails without a
/// state.
pub fn network(cni_result: &str, program: &str) -> String {
    let (result_len, program_len) = (cni_result.len(), program.len());
    format!(
        r#"(module
    (import "witlet:base/objects@0.1.0" "[resource-drop]pod" (func $drop-pod (param i32)))
    (import "witlet:network/sandboxes@0.1.0" "[resource-drop]sandbox" (func $drop-sandbox (param i32)))
    {PRELUDE}
    (data (i32.const 256) {cni_result:?})
    (data (i32.const 512) {program:?})
    (data (i32.const 600) "kept")
    (data (i32.const 620) "no state")
    (func (export "witlet:network/driver@0.1.0#setup") (param $some i32) (param $pod i32) (param $sandbox i32) (result i32)
        (if (local.get $some) (then (call $drop-pod (local.get $pod))))
        (call $drop-sandbox (local.get $sandbox))
        ;; one command: program, args, env, stdin
        (i32.store (i32.const 700) (i32.const 512))
        (i32.store (i32.const 704) (i32.const {program_len}))
        (i32.store8 (i32.const 1024) (i32.const 0))
        (i32.store (i32.const 1028) (i32.const 256))
        (i32.store (i32.const 1032) (i32.const {result_len}))
        (i32.store (i32.const 1036) (i32.const 600))
        (i32.store (i32.const 1040) (i32.const 4))
        (i32.store (i32.const 1044) (i32.const 700))
        (i32.store (i32.const 1048) (i32.const 1))
        (i32.const 1024))
    (func $with-state (param $sandbox i32) (param $some i32) (result i32)
        (call $drop-sandbox (local.get $sandbox))
        (if (i32.eqz (local.get $some)) (then
            (return (call $error (i32.const 0) (i32.const 620) (i32.const 8)))))
        (i32.store8 (i32.const 1024) (i32.const 0))
        (i32.const 1024))
    (func (export "witlet:network/driver@0.1.0#teardown") (param $sandbox i32) (param $some i32) (param i32 i32) (result i32)
        (call $with-state (local.get $sandbox) (local.get $some)))
    (func (export "witlet:network/driver@0.1.0#check") (param $sandbox i32) (param $some i32) (param i32 i32) (result i32)
        (call $with-state (local.get $sandbox) (local.get $some)))
    (func (export "witlet:network/driver@0.1.0#status") (result i32)
        (i32.store8 (i32.const 1024) (i32.const 0))
        (i32.const 1024)))"#
    )
}

/// A probe that does nothing but call the host: `L` writes log lines for ever, `R` asks for randomness for ever.
pub fn flooding_probe() -> String {
    format!(
        r#"(module
    (import "witlet:base/log@0.1.0" "log" (func $log (param i32 i32 i32)))
    (import "witlet:base/random@0.1.0" "bytes" (func $random (param i32 i32)))
    (import "witlet:base/objects@0.1.0" "[resource-drop]pod" (func $drop-pod (param i32)))
    (import "witlet:base/objects@0.1.0" "[resource-drop]container" (func $drop-container (param i32)))
    {PRELUDE}
    (data (i32.const 16) "noise")
    (func (export "witlet:probe/probe@0.1.0#check") (param i32 i32) (param $params i32) (param i32 i32) (result i32)
        (if (i32.eq (i32.load8_u (local.get $params)) (i32.const 76)) (then
            (loop $again (call $log (i32.const 2) (i32.const 16) (i32.const 5)) (br $again))))
        (loop $again
            ;; In the same place again and again: the guest's memory is not what runs out.
            (global.set $heap (i32.const 8192))
            (call $random (i32.const 65536) (i32.const 128))
            (br $again))
        (unreachable)))"#
    )
}

/// A probe that connects to the pod again and again and lets go of nothing.
pub fn hoarding_probe(port: u16) -> String {
    format!(
        r#"(module
    (import "witlet:probe/pod-net@0.1.0" "tcp-connect" (func $connect (param i32 i32 i32 i32 i32 i32 i32)))
    (import "witlet:base/objects@0.1.0" "[resource-drop]pod" (func $drop-pod (param i32)))
    (import "witlet:base/objects@0.1.0" "[resource-drop]container" (func $drop-container (param i32)))
    {PRELUDE}
    (func (export "witlet:probe/probe@0.1.0#check") (param $pod i32) (param i32 i32 i32) (param $ms i32) (result i32)
        (loop $again
            (call $connect (local.get $pod) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const {port}) (local.get $ms) (i32.const 128))
            (br_if $again (i32.eqz (i32.load8_u (i32.const 128)))))
        (call $error (i32.load8_u (i32.const 132)) (i32.load (i32.const 136)) (i32.load (i32.const 140)))))"#
    )
}

/// A probe that never gets as far as being called: its start function loops for ever.
pub fn never_starting_probe() -> String {
    let moody = moody_probe("x");
    let moody = moody.strip_suffix(')').unwrap();
    format!("{moody} (func $stuck (loop $again (br $again))) (start $stuck))")
}

/// A policy that allows every pod, and no container whose image begins with `b`.
pub fn container_policy() -> String {
    let import =
        r#"(module (import "witlet:base/objects@0.1.0" "[resource-drop]container" (func $drop-container (param i32)))"#;
    let policy = policy("").replacen("(module", import, 1);
    let policy = policy.strip_suffix(')').unwrap();
    format!(
        r#"{policy}
    (data (i32.const 2048) "not this image")
    (func (export "witlet:policy-hooks/container-create@0.1.0#review-container")
        (param $pod i32) (param $container i32) (param $image i32) (param i32) (result i32)
        (call $drop-pod (local.get $pod))
        (call $drop-container (local.get $container))
        (i32.store8 (i32.const 1024) (i32.const 0))
        ;; denied, if the image begins so
        (i32.store8 (i32.const 1028) (i32.eq (i32.load8_u (local.get $image)) (i32.const 98)))
        (i32.store (i32.const 1032) (i32.const 2048))
        (i32.store (i32.const 1036) (i32.const 14))
        ;; no warnings
        (i32.store (i32.const 1040) (i32.const 0))
        (i32.store (i32.const 1044) (i32.const 0))
        (i32.const 1024)))"#
    )
}

/// The same, and one that lets nobody run commands: both hooks.
pub fn hooked_policy() -> String {
    let policy = container_policy();
    let policy = policy.strip_suffix(')').unwrap();
    format!(
        r#"{policy}
    (data (i32.const 2100) "no commands")
    (func (export "witlet:policy-hooks/access@0.1.0#review-access")
        (param $pod i32) (param $verb i32) (param $verb-len i32) (param i32 i32) (param i32) (param $commands i32)
        (param i32 i32) (param i32 i32) (result i32)
        (call $drop-pod (local.get $pod))
        (i32.store8 (i32.const 1024) (i32.const 0))
        ;; denied, if it is exec with a command
        (i32.store8 (i32.const 1028) (i32.and
            (i32.eq (local.get $verb-len) (i32.const 4))
            (i32.ne (local.get $commands) (i32.const 0))))
        (i32.store (i32.const 1032) (i32.const 2100))
        (i32.store (i32.const 1036) (i32.const 11))
        ;; one warning
        (i32.store (i32.const 320) (i32.const 300))
        (i32.store (i32.const 324) (i32.const 9))
        (i32.store (i32.const 1040) (i32.const 320))
        (i32.store (i32.const 1044) (i32.const 1))
        (i32.const 1024)))"#
    )
}

/// A probe that keeps things: `S` and a text sets the text under itself, `G` and a text answers what is under it, or nothing.
pub fn keeping_probe() -> String {
    format!(
        r#"(module
    (import "witlet:base/objects@0.1.0" "[resource-drop]pod" (func $drop-pod (param i32)))
    (import "witlet:base/objects@0.1.0" "[resource-drop]container" (func $drop-container (param i32)))
    (import "witlet:base/kv@0.1.0" "get" (func $get (param i32 i32 i32)))
    (import "witlet:base/kv@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32)))
    {PRELUDE}
    (func (export "witlet:probe/probe@0.1.0#check") (param $pod i32) (param $container i32) (param $at i32) (param $len i32) (param i32) (result i32)
        (local $mood i32)
        (call $drop-pod (local.get $pod))
        (call $drop-container (local.get $container))
        (local.set $mood (i32.load8_u (local.get $at)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (local.set $len (i32.sub (local.get $len) (i32.const 1)))
        (if (i32.eq (local.get $mood) (i32.const 83)) (then
            (call $set (local.get $at) (local.get $len) (local.get $at) (local.get $len) (i32.const 128)))
        (else
            (call $get (local.get $at) (local.get $len) (i32.const 128))))
        (if (i32.load8_u (i32.const 128)) (then
            (return (call $error (i32.load8_u (i32.const 132)) (i32.load (i32.const 136)) (i32.load (i32.const 140))))))
        ;; passes, with the value that there is, if there is one
        (i32.store8 (i32.const 1024) (i32.const 0))
        (i32.store8 (i32.const 1028) (i32.const 0))
        (i32.store (i32.const 1032) (i32.load (i32.const 136)))
        (i32.store (i32.const 1036) (select
            (i32.load (i32.const 140)) (i32.const 0)
            (i32.and (i32.load8_u (i32.const 132)) (i32.ne (local.get $mood) (i32.const 83)))))
        (i32.const 1024)))"#
    )
}

/// A probe that counts (`C`) and hands its count to the next version, in this form of it; it takes no other.
pub fn handing_probe(form: u32) -> String {
    let moody = moody_probe("x");
    let moody = moody.strip_suffix(')').unwrap();
    format!(
        r#"{moody}
    (data (i32.const 2048) "another form")
    (func (export "witlet:lifecycle/state@0.1.0#export-state") (result i32)
        (i32.store8 (i32.const 700) (global.get $calls))
        (i32.store8 (i32.const 1024) (i32.const 0))
        (i32.store (i32.const 1028) (i32.const {form}))
        (i32.store (i32.const 1032) (i32.const 700))
        (i32.store (i32.const 1036) (i32.const 1))
        (i32.const 1024))
    (func (export "witlet:lifecycle/state@0.1.0#import-state") (param $form i32) (param $at i32) (param i32) (result i32)
        (i32.store (i32.const 1024) (i32.const 0))
        (if (i32.ne (local.get $form) (i32.const {form})) (then
            (i32.store8 (i32.const 1024) (i32.const 1))
            (i32.store (i32.const 1028) (i32.const 2048))
            (i32.store (i32.const 1032) (i32.const 12)))
        (else (global.set $calls (i32.load8_u (local.get $at)))))
        (i32.const 1024)))"#
    )
}

/// The same, and a check of itself that passes.
pub fn checked_and_handing_probe() -> String {
    let handing = handing_probe(1);
    let handing = handing.strip_suffix(')').unwrap();
    format!(
        r#"{handing}
    (func (export "witlet:lifecycle/self-check@0.1.0#run") (result i32)
        (i32.store (i32.const 1024) (i32.const 0))
        (i32.const 1024)))"#
    )
}

/// A volume plugin with all the steps. What is staged gets a file; pods get a directory; nothing can have more than 2 GiB.
pub fn stepping_volume() -> String {
    format!(
        r#"(module
    (import "witlet:base/objects@0.1.0" "[resource-drop]pod" (func $drop-pod (param i32)))
    (import "witlet:volume-steps/steps@0.1.0" "[resource-drop]step" (func $drop-step (param i32)))
    (import "witlet:volume-steps/steps@0.1.0" "[method]step.volume" (func $volume (param i32 i32)))
    (import "witlet:volume/files@0.1.0" "[resource-drop]volume-dir" (func $drop-dir (param i32)))
    (import "witlet:volume/files@0.1.0" "[method]volume-dir.create" (func $create (param i32 i32 i32)))
    (import "witlet:volume/files@0.1.0" "[method]volume-dir.write" (func $write (param i32 i32 i32 i32 i32 i32 i32)))
    (import "witlet:volume/files@0.1.0" "[method]volume-dir.append" (func $append (param i32 i32 i32 i32 i32 i32)))
    (import "witlet:volume/files@0.1.0" "[method]volume-dir.destroy" (func $destroy (param i32 i32)))
    {PRELUDE}
    (data (i32.const 16) "volume")
    (data (i32.const 32) "stages")
    (data (i32.const 48) "s")
    (data (i32.const 64) "too large")
    (func $done (param $dir i32) (result i32)
        (call $drop-dir (local.get $dir))
        (if (i32.load8_u (i32.const 128)) (then
            (return (call $error (i32.load8_u (i32.const 132)) (i32.load (i32.const 136)) (i32.load (i32.const 140))))))
        (i32.store8 (i32.const 1024) (i32.const 0))
        ;; no host path, not read-only, does not follow its source
        (i32.store8 (i32.const 1028) (i32.const 0))
        (i32.store8 (i32.const 1040) (i32.const 0))
        (i32.store8 (i32.const 1041) (i32.const 0))
        (i32.const 1024))
    (func (export "witlet:volume/driver@0.1.0#publish") (param $pod i32) (param i32 i32) (param $dir i32) (result i32)
        (call $drop-pod (local.get $pod))
        (call $create (local.get $dir) (i32.const 448) (i32.const 128))
        (call $done (local.get $dir)))
    (func (export "witlet:volume/driver@0.1.0#unpublish") (param $dir i32) (result i32)
        (call $destroy (local.get $dir) (i32.const 128))
        (call $done (local.get $dir)))
    (func (export "witlet:volume-steps/staging@0.1.0#stage") (param $step i32) (param $dir i32) (result i32)
        (call $volume (local.get $step) (i32.const 200))
        (call $drop-step (local.get $step))
        (call $create (local.get $dir) (i32.const 493) (i32.const 128))
        (if (i32.load8_u (i32.const 128)) (then (return (call $done (local.get $dir)))))
        (call $write (local.get $dir) (i32.const 16) (i32.const 6) (i32.load (i32.const 200)) (i32.load (i32.const 204)) (i32.const 420) (i32.const 128))
        (if (i32.load8_u (i32.const 128)) (then (return (call $done (local.get $dir)))))
        ;; One letter for each call.
        (call $append (local.get $dir) (i32.const 32) (i32.const 6) (i32.const 48) (i32.const 1) (i32.const 128))
        (if (i32.load8_u (i32.const 128)) (then
            (call $write (local.get $dir) (i32.const 32) (i32.const 6) (i32.const 48) (i32.const 1) (i32.const 420) (i32.const 128))))
        (call $done (local.get $dir)))
    (func (export "witlet:volume-steps/staging@0.1.0#publish")
        (param $pod i32) (param $step i32) (param $some i32) (param $staging i32) (param $dir i32) (result i32)
        (call $drop-pod (local.get $pod))
        (call $drop-step (local.get $step))
        (if (local.get $some) (then (call $drop-dir (local.get $staging))))
        (call $create (local.get $dir) (i32.const 511) (i32.const 128))
        (call $done (local.get $dir)))
    (func (export "witlet:volume-steps/staging@0.1.0#unstage") (param $dir i32) (result i32)
        (call $destroy (local.get $dir) (i32.const 128))
        (call $done (local.get $dir)))
    (func (export "witlet:volume-steps/expansion@0.1.0#expand")
        (param $step i32) (param $some i32) (param $staging i32) (param $dir i32) (param $bytes i64) (result i32)
        (call $drop-step (local.get $step))
        (if (local.get $some) (then (call $drop-dir (local.get $staging))))
        (call $drop-dir (local.get $dir))
        (if (i64.gt_u (local.get $bytes) (i64.const 2147483648)) (then
            (return (call $error (i32.const 0) (i32.const 64) (i32.const 9)))))
        (i32.store8 (i32.const 1024) (i32.const 0))
        (i32.const 1024))
    (func (export "witlet:volume-steps/statistics@0.1.0#usage") (param $dir i32) (result i32)
        (call $drop-dir (local.get $dir))
        (i32.store8 (i32.const 1024) (i32.const 0))
        (i64.store (i32.const 1032) (i64.const 100))
        (i64.store (i32.const 1040) (i64.const 60))
        (i64.store (i32.const 1048) (i64.const 40))
        (i32.store8 (i32.const 1056) (i32.const 0))
        (i32.const 1024)))"#
    )
}
