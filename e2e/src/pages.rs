//! The how-to pages as a person follows them: each block of commands that is marked `<!-- try: … -->` is typed on the masters that its
//! mark names. Only what the prose asks a person to do between them (copy a file, wait) is left to the tests.

use anyhow::{Context, Result};
use lifeboat_testbed::Node;

use crate::masters::Masters;

/// The commands of a block of a page, by its mark: what stands behind the prompt `#`, continued lines joined.
///
/// # Panics
/// The page has no such block, or nothing is to be typed in it.
pub fn commands(page: &str, mark: &str) -> Vec<String> {
    let rest = page.split_once(&format!("<!-- try: {mark} -->")).unwrap_or_else(|| panic!("no block {mark:?}")).1;
    let block = rest.split_once("```console").unwrap().1.split_once("```").unwrap().0.replace("\\\n", " ");
    let typed: Vec<String> =
        block.lines().filter_map(|line| line.trim().strip_prefix("# ")).map(str::to_owned).collect();
    assert!(!typed.is_empty(), "nothing to type in {mark:?}");
    typed
}

/// Types them on a master, in one shell, and gives what they say; the first that fails ends it.
pub async fn enter(masters: &Masters, node: &Node, commands: &[String]) -> Result<String> {
    let mut lines = vec!["set -e".to_owned(), "PATH=/opt/lifeboat/bin:/root/bin:$PATH".to_owned()];
    for command in commands {
        println!("{} # {command}", node.name);
        lines.push(command.clone());
    }
    let ended = masters.run_program(node, "bash", &["-c", &lines.join("\n")]).await?.done();
    let said = ended.with_context(|| format!("{commands:?}"))?;
    Ok(said.out + &said.err)
}

/// Types a block of a page on every master.
pub async fn enter_on_all(masters: &Masters, page: &str, mark: &str) -> Result<()> {
    for node in masters.nodes() {
        enter(masters, node, &commands(page, mark)).await?;
    }
    Ok(())
}
