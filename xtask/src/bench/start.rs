//! From starting weir to its first answer.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::figures::{Figures, Quantity};
use super::target::{self, Who};
use crate::launch::{self, Weir};
use crate::os::cpu::{self, Cores};
use crate::os::interrupt;
use crate::process::Running;

const STARTS: usize = 10;

pub(crate) fn measure(
    weir: &Path,
    cores: Cores,
    backends: &[std::net::SocketAddr],
    figures: &mut Figures,
) -> Result<()> {
    for _ in 0..STARTS {
        interrupt::check()?;
        let folder = target::scratch("start")?;
        let listen = target::free_address()?;
        let setting = Weir { listen, workers: Some(2), ..Weir::before(backends) };
        let mut command = launch::command(weir, &setting.write(&folder)?, &folder)?;
        let begun = Instant::now();
        let mut process = Running::start("weir", cpu::pinned(&mut command, cores.proxy))?;
        target::wait_for_answer(&mut process, Who::Weir, listen)?;
        figures.add(Quantity::Start, Who::Weir, begun.elapsed().as_secs_f64() * 1e3);
        process.stop(Duration::from_secs(5))?;
    }
    Ok(())
}
