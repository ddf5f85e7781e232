//! The figures as a Markdown table, and its place in docs/performance.md.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::figures::{Figures, Report, median};
use crate::machine::Machine;

const BEGIN: &str = "<!-- measured: begin -->";
const END: &str = "<!-- measured: end -->";

/// The table and where it was measured.
pub fn render(report: &Report) -> String {
    let Report { figures, date, machine, versions, seed, runs, busy_runs, all_runs, raw } = report;
    let Machine { processor, cores, memory_mib, kernel } = machine;
    let mut text = String::from("| measure | must | aim | measured | |\n|---|---|---|---|---|\n");
    for Row { measure, must, aim, value, is_met } in rows(figures) {
        let verdict = match is_met {
            None => "",
            Some(true) => "yes",
            Some(false) => "**no**",
        };
        text.push_str(&format!("| {measure} | {must} | {aim} | {value} | {verdict} |\n"));
    }
    text.push_str("\n| medians (least – most) | the database | the larger one |\n|---|---|---|\n");
    for (what, values) in medians(report) {
        text.push_str(&format!("| {what} | {} | {} |\n", values[0], values[1]));
    }
    if let Some(disturbed) = &raw.disturbed {
        let (save, backup) = (disturbed.pooled_save, disturbed.pooled_backup);
        text.push_str(&format!(
            "\nWrites to etcd, all runs together: p50 {:.1} ms and p99 {:.1} ms during a save ({} writes), p50 {:.1} ms and p99 {:.1} ms \
             during a backup ({} writes); medians alone: p99 {:.1} ms.\n",
            save.p50_ms,
            save.p99_ms,
            save.count,
            backup.p50_ms,
            backup.p99_ms,
            backup.count,
            median(disturbed.alone.iter().map(|run| run.p99_ms)).unwrap_or_default(),
        ));
    }
    text.push_str(&format!(
        "\nMeasured {date} on {cores} cores of {processor}, {:.0} GiB of memory, Linux {kernel}; one run of `make bench`, medians of {runs} \
         interleaved runs (memory: the worst of them), seed {seed}. etcd, the S3 server, the agent, the API server and the bench share these \
         cores. {}\n",
        *memory_mib as f64 / 1024.0,
        versions.join("; "),
    ));
    if *busy_runs > 0 {
        text.push_str(&format!(
            "\n**The machine was not quiet**: before {busy_runs} of {all_runs} runs something else was at work. Measure again.\n"
        ));
    }
    text
}

struct Row {
    measure: &'static str,
    must: &'static str,
    aim: &'static str,
    value: String,
    is_met: Option<bool>,
}

fn rows(figures: &Figures) -> Vec<Row> {
    let Figures {
        backup_vs_etcdctl_save,
        backup_vs_stream_floor,
        put_p99_vs_etcdctl_save,
        agent_peak_rss_mib_1gib,
        agent_peak_rss_mib_4gib,
        agent_idle_rss_mib,
        operator_idle_rss_mib_1000_backups,
        verifier_gib_per_s,
        time_4gib_vs_1gib,
        api_writes_per_backup,
    } = *figures;
    let row = |measure, must, aim, (figure, unit): (Option<f64>, &str), good: fn(f64) -> bool| Row {
        measure,
        must,
        aim,
        value: figure.map_or_else(|| "not measured".to_owned(), |figure| format!("{figure:.2}{unit}")),
        is_met: figure.map(good),
    };
    vec![
        row(
            "whole backup into S3 ÷ `etcdctl snapshot save` to disk",
            "≤ 0.8",
            "≤ 0.6",
            (backup_vs_etcdctl_save, ""),
            |f| f <= 0.8,
        ),
        row("whole backup ÷ bare read of the stream", "≤ 1.5", "≤ 1.2", (backup_vs_stream_floor, ""), |f| {
            f <= 1.5
        }),
        row(
            "put p99 on etcd during a backup ÷ during `etcdctl snapshot save`",
            "≤ 1.0",
            "",
            (put_p99_vs_etcdctl_save, ""),
            |f| f <= 1.0,
        ),
        row("agent's peak RSS, 1 GiB", "≤ 64 MiB", "flat", (agent_peak_rss_mib_1gib, " MiB"), |f| f <= 64.0),
        row("agent's peak RSS, 4 GiB", "≤ 96 MiB", "flat", (agent_peak_rss_mib_4gib, " MiB"), |f| f <= 96.0),
        row("idle agent's RSS", "≤ 20 MiB", "", (agent_idle_rss_mib, " MiB"), |f| f <= 20.0),
        row(
            "idle operator's RSS with 1,000 backups",
            "≤ 40 MiB",
            "",
            (operator_idle_rss_mib_1000_backups, " MiB"),
            |f| f <= 40.0,
        ),
        row("stream verifier alone, one core", "≥ 1.5 GiB/s", "≥ 2.5 GiB/s", (verifier_gib_per_s, " GiB/s"), |f| {
            f >= 1.5
        }),
        // Linear, and a tenth for what does not grow with it.
        row("time for 4 GiB ÷ time for 1 GiB", "linear (≤ 4.4)", "", (time_4gib_vs_1gib, ""), |f| f <= 4.4),
        row("API writes per backup", "≤ 20", "", (api_writes_per_backup, ""), |f| f <= 20.0),
    ]
}

fn medians(report: &Report) -> Vec<(&'static str, [String; 2])> {
    let raw = &report.raw;
    let of = |value: fn(&crate::rounds::Compared) -> Vec<f64>, unit: &str| {
        [&raw.compared, &raw.grown].map(|compared| {
            let values = compared.as_ref().map(value).unwrap_or_default();
            let Some(middle) = median(values.iter().copied()) else { return "–".to_owned() };
            let (least, most) = values.iter().fold((f64::MAX, f64::MIN), |(l, m), v| (l.min(*v), m.max(*v)));
            format!("{middle:.2}{unit} ({least:.2} – {most:.2})")
        })
    };
    vec![
        ("snapshot", of(|c| c.backups.iter().map(|run| run.size_bytes as f64 / 1048576.0).collect(), " MiB")),
        ("archive", of(|c| c.backups.iter().map(|run| run.stored_bytes as f64 / 1048576.0).collect(), " MiB")),
        ("`etcdctl snapshot save` to disk", of(|c| c.save.clone(), " s")),
        ("bare read of the stream", of(|c| c.floor.clone(), " s")),
        (
            "backup, `kubectl apply` to `Complete` seen",
            of(|c| c.backups.iter().map(|run| run.seconds_seen).collect(), " s"),
        ),
        ("backup, agent's start to manifest", of(|c| c.backups.iter().map(|run| run.seconds_agent).collect(), " s")),
        ("processor time of the agent", of(|c| c.backups.iter().map(|run| run.agent_cpu_seconds).collect(), " s")),
    ]
}

/// Puts the table between the markers of a page.
///
/// # Errors
/// The page has no markers.
pub fn write_into(page: &Path, table: &str) -> Result<()> {
    let text = fs::read_to_string(page)?;
    let (before, rest) = text.split_once(BEGIN).with_context(|| format!("{}: no {BEGIN}", page.display()))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("{}: no {END}", page.display()))?;
    Ok(fs::write(page, format!("{before}{BEGIN}\n{table}{END}{after}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_beyond_its_bound_says_so_and_a_missing_one_says_nothing() {
        let rows = rows(&Figures { agent_idle_rss_mib: Some(20.5), ..Figures::default() });
        let of = |measure: &str| rows.iter().find(|row| row.measure == measure).unwrap().is_met;
        assert_eq!(of("idle agent's RSS"), Some(false));
        assert_eq!(of("API writes per backup"), None);
    }

    #[test]
    fn the_page_keeps_what_stands_around_the_table() {
        let page = std::env::temp_dir().join(format!("lifeboat-bench-{}.md", std::process::id()));
        fs::write(&page, format!("above\n{BEGIN}\nold\n{END}\nbelow\n")).unwrap();
        write_into(&page, "new\n").unwrap();
        write_into(&page, "newer\n").unwrap();
        assert_eq!(fs::read_to_string(&page).unwrap(), format!("above\n{BEGIN}\nnewer\n{END}\nbelow\n"));
        fs::remove_file(&page).unwrap();
    }
}
