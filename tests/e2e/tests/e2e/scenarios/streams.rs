//! Logs of containers and streams into them, as kubectl asks for them: over WebSocket and over SPDY.

use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use witlet_lab::BUSYBOX;

use super::kubectl::{command, finish, kubectl};
use crate::spec::{STAY, once, pod, shell, web};
use crate::world::{Ctx, See, eventually, fetch, same};

/// Which protocol kubectl is to use.
const WAYS: [(&str, &str); 2] = [("WebSocket", "true"), ("SPDY", "false")];

fn over(websockets: &str, ctx: &Ctx, args: &[&str]) -> Command {
    let mut command = command(ctx, args);
    command
        .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets)
        .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Exit code, standard output and standard error.
fn outcome(out: &Output) -> (Option<i32>, String, String) {
    (out.status.code(), text(&out.stdout), text(&out.stderr))
}

/// Says something and waits for the words of the answer, with the input open: its end would be the end of the session.
async fn converse(mut command: Command, input: &str, words: &str) -> Result<()> {
    let mut child = command.stdin(Stdio::piped()).spawn()?;
    let (mut stdin, mut stdout) = (
        child.stdin.take().context("no input")?,
        child.stdout.take().context("no output")?,
    );
    let mut said = Vec::new();
    let heard = async {
        stdin.write_all(input.as_bytes()).await?;
        while !text(&said).contains(words) {
            if stdout.read_buf(&mut said).await? == 0 {
                break;
            }
        }
        Ok::<_, std::io::Error>(())
    };
    let heard = tokio::time::timeout(Duration::from_secs(30), heard).await;
    drop(stdin);
    let out = child.wait_with_output().await?;
    heard.with_context(|| format!("no answer {words:?}: {:?} {}", text(&said), text(&out.stderr)))??;
    let said = text(&said);
    ensure!(said.contains(words), "the answer is {said:?} {}", text(&out.stderr));
    Ok(())
}

/// What kubectl complains about.
async fn refused(ctx: &Ctx, args: &[&str]) -> Result<String> {
    let out = finish(command(ctx, args), None).await?;
    ensure!(!out.status.success(), "kubectl {args:?} says {}", text(&out.stdout));
    Ok(text(&out.stderr))
}

pub(super) async fn logs_are_read(ctx: Ctx) -> Result<()> {
    let script = format!("for i in 1 2 3 4; do echo line $i; done; echo oops >&2; {STAY}");
    ctx.create(&pod(
        "talk",
        &json!({ "containers": [shell("a", &script, &json!({})), shell("b", STAY, &json!({}))] }),
    ))
    .await?;
    ctx.wait_ready("talk").await?;
    let all = "line 1\nline 2\nline 3\nline 4\noops\n";
    eventually("all lines", Duration::from_secs(20), || async {
        let out = kubectl(&ctx, &["logs", "talk", "-c", "a"], None).await?;
        Ok((out.lines().count() == 5).then_some(()))
    })
    .await?;
    let out = kubectl(&ctx, &["logs", "talk", "-c", "a"], None).await?;
    // The runtime keeps no order between the two outputs.
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    same("the log", lines.join("\n") + "\n", all.to_owned())?;
    let out = kubectl(&ctx, &["logs", "talk", "-c", "a", "--tail=2"], None).await?;
    same("lines of the tail", out.lines().count(), 2)?;
    let out = kubectl(&ctx, &["logs", "talk", "-c", "a", "--limit-bytes=10"], None).await?;
    same("the first bytes", out.len(), 10)?;
    let out = kubectl(&ctx, &["logs", "talk", "-c", "a", "--since=1h", "--timestamps"], None).await?;
    let stamp = out.split(' ').next().unwrap_or_default();
    ensure!(stamp.len() >= 30 && stamp.starts_with("20"), "no timestamp in {out:?}");
    let out = kubectl(
        &ctx,
        &["logs", "talk", "-c", "a", "--since-time=2999-01-01T00:00:00Z"],
        None,
    )
    .await?;
    same("what comes in the future", out.as_str(), "")?;

    let error = refused(&ctx, &["logs", "talk", "-c", "nobody"]).await?;
    ensure!(error.contains("container nobody is not valid for pod talk"), "{error}");
    let error = refused(&ctx, &["logs", "talk", "-c", "a", "--previous"]).await?;
    let words = r#"previous terminated container "a" in pod "talk" not found"#;
    ensure!(error.contains(words), "{error}");
    let raw = format!("/api/v1/namespaces/{}/pods/talk/log", ctx.ns);
    let error = refused(&ctx, &["get", "--raw", &raw]).await?;
    ensure!(
        error.contains("a container name must be specified for pod talk, choose one of: [a b]"),
        "{error}"
    );

    let container = json!({ "name": "main", "image": "witlet.dev/nowhere:1", "imagePullPolicy": "Never" });
    ctx.create(&pod("waits", &json!({ "containers": [container] }))).await?;
    ctx.wait("waits", "ErrImageNeverPull", Duration::from_secs(60), |pod| {
        let state = pod.status_of("main")?.state.clone()?;
        (state.waiting?.reason? == "ErrImageNeverPull").then_some(())
    })
    .await?;
    let error = refused(&ctx, &["logs", "waits"]).await?;
    let words = r#"container "main" in pod "waits" is waiting to start: ErrImageNeverPull"#;
    ensure!(error.contains(words), "{error}");
    Ok(())
}

pub(super) async fn logs_are_followed_to_the_end(ctx: Ctx) -> Result<()> {
    ctx.create(&once(
        "count",
        "for i in 1 2 3 4 5; do echo $i; sleep 1; done",
        &json!({}),
    ))
    .await?;
    ctx.wait("count", "running", Duration::from_secs(60), |pod| {
        pod.status_of("main")?.state.as_ref()?.running.as_ref().map(drop)
    })
    .await?;
    let out = kubectl(&ctx, &["logs", "--follow", "count"], None).await?;
    same("what was followed", out.as_str(), "1\n2\n3\n4\n5\n")?;
    let out = kubectl(&ctx, &["logs", "--follow", "--tail=1", "count"], None).await?;
    same("the last line of one that ended", out.as_str(), "5\n")
}

pub(super) async fn logs_of_the_one_before_are_kept(ctx: Ctx) -> Result<()> {
    let script = "echo started $(cat /proc/sys/kernel/random/uuid); sleep 1; exit 1";
    ctx.create(&pod(
        "again",
        &json!({ "containers": [shell("main", script, &json!({}))] }),
    ))
    .await?;
    ctx.wait("again", "a restart", Duration::from_secs(60), |pod| {
        (pod.restarts() > 0).then_some(())
    })
    .await?;
    let before = kubectl(&ctx, &["logs", "again", "--previous"], None).await?;
    ensure!(
        before.starts_with("started ") && before.lines().count() == 1,
        "the log before is {before:?}"
    );
    Ok(())
}

pub(super) async fn commands_run_in_containers(ctx: Ctx) -> Result<()> {
    ctx.create(&web("web")).await?;
    ctx.wait_ready("web").await?;
    for (way, websockets) in WAYS {
        let script = "echo out; echo err >&2; exit 7";
        let out = finish(over(websockets, &ctx, &["exec", "web", "--", "sh", "-c", script]), None).await?;
        let (code, stdout, stderr) = outcome(&out);
        same(way, (code, stdout.as_str()), (Some(7), "out\n"))?;
        ensure!(
            stderr.starts_with("err\n") && stderr.contains("exit code 7"),
            "{way}: {stderr}"
        );

        let input = "line\n".repeat(50_000);
        let counting = over(websockets, &ctx, &["exec", "-i", "web", "--", "wc", "-c"]);
        let out = finish(counting, Some(input.clone())).await?;
        same(
            way,
            outcome(&out),
            (Some(0), format!("{}\n", input.len()), String::new()),
        )?;

        let out = finish(
            over(websockets, &ctx, &["exec", "web", "--", "cat", "/bin/busybox"]),
            None,
        )
        .await?;
        same(way, out.stdout.len() > 500_000, true)?;
    }
    let error = refused(&ctx, &["exec", "web", "-c", "nobody", "--", "true"]).await?;
    ensure!(error.contains("container nobody is not valid for pod web"), "{error}");
    let error = refused(&ctx, &["exec", "web", "--", "/no/such/program"]).await?;
    ensure!(error.contains("no such file"), "{error}");

    ctx.create(&once("over", "true", &json!({}))).await?;
    ctx.wait_phase("over", "Succeeded").await?;
    let error = refused(&ctx, &["exec", "over", "--", "true"]).await?;
    ensure!(
        error.contains("cannot exec into a container in a completed pod")
            || error.contains(r#"container not found ("main")"#),
        "{error}"
    );
    Ok(())
}

pub(super) async fn a_terminal_is_one(ctx: Ctx) -> Result<()> {
    ctx.create(&web("web")).await?;
    ctx.wait_ready("web").await?;
    let config = ctx.world.kubeconfig();
    for (way, websockets) in WAYS {
        // kubectl asks for a terminal only if it has one itself.
        let line = format!(
            "stty rows 33 cols 77; kubectl --kubeconfig {} -n {} exec -it web -- sh -c 'tty; sleep 1; stty size; exit 3'",
            config.display(),
            ctx.ns
        );
        let mut script = Command::new("script");
        script
            .args(["-qec", &line, "/dev/null"])
            .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // An open input: its end would be the terminal's.
        let mut child = script
            .stdin(Stdio::piped())
            .spawn()
            .context("script is not installed")?;
        let stdin = child.stdin.take();
        let out = child.wait_with_output().await?;
        drop(stdin);
        let said = text(&out.stdout);
        ensure!(
            said.contains("/dev/pts/") && said.contains("33 77"),
            "{way}: {said:?} {}",
            text(&out.stderr)
        );
        same(way, out.status.code(), Some(3))?;
    }
    Ok(())
}

pub(super) async fn processes_are_attached_to(ctx: Ctx) -> Result<()> {
    let script = "while read line; do echo got $line; [ $line = end ] && sleep 1 && exit 0; done";
    for (way, websockets) in WAYS {
        let name = format!("reads-{}", way.to_lowercase());
        let container = shell("main", script, &json!({ "stdin": true }));
        ctx.create(&pod(
            &name,
            &json!({ "restartPolicy": "Never", "containers": [container] }),
        ))
        .await?;
        ctx.wait_ready(&name).await?;
        let attached = over(websockets, &ctx, &["attach", "-i", &name]);
        converse(attached, "one\nend\n", "got one\ngot end\n")
            .await
            .context(way)?;
        ctx.wait_phase(&name, "Succeeded").await?;
    }
    Ok(())
}

pub(super) async fn ports_are_forwarded(ctx: Ctx) -> Result<()> {
    ctx.create(&web("web")).await?;
    ctx.wait_ready("web").await?;
    for (way, websockets) in WAYS {
        let mut forwarding = over(websockets, &ctx, &["port-forward", "pod/web", ":8080"]);
        let mut child = forwarding.stdin(Stdio::null()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await??;
        let line = line.with_context(|| format!("{way}: kubectl port-forward ended"))?;
        let port = line
            .split("127.0.0.1:")
            .nth(1)
            .and_then(|r| r.split(' ').next())
            .and_then(|p| p.parse().ok());
        let port = port.with_context(|| format!("{way}: no port in {line:?}"))?;
        for _ in 0..3 {
            let answer = fetch("127.0.0.1", port, "/healthz").await?;
            same(way, answer, (200, "ok\n".to_owned()))?;
        }
        child.kill().await?;
    }
    Ok(())
}

pub(super) async fn files_are_copied(ctx: Ctx) -> Result<()> {
    ctx.create(&web("web")).await?;
    ctx.wait_ready("web").await?;
    let (from, back) = (ctx.scratch().join("from"), ctx.scratch().join("back"));
    let content = "content of a file\n".repeat(10_000);
    std::fs::write(&from, &content)?;
    kubectl(&ctx, &["cp", &from.display().to_string(), "web:/tmp/there"], None).await?;
    let out = kubectl(&ctx, &["exec", "web", "--", "wc", "-c", "/tmp/there"], None).await?;
    same(
        "bytes there",
        out.split_whitespace().next(),
        Some(content.len().to_string().as_str()),
    )?;
    kubectl(&ctx, &["cp", "web:/tmp/there", &back.display().to_string()], None).await?;
    same(
        "the file that came back",
        std::fs::read_to_string(&back)? == content,
        true,
    )
}

pub(super) async fn a_pod_is_debugged(ctx: Ctx) -> Result<()> {
    ctx.create(&web("web")).await?;
    ctx.wait_ready("web").await?;
    let image = format!("--image={BUSYBOX}");
    let args = ["debug", "-i", "pod/web", &image, "--target=web", "--", "sh"];
    let input = "echo beside $(cat /proc/1/comm); sleep 1; exit\n";
    converse(command(&ctx, &args), input, "beside demo-web").await
}
