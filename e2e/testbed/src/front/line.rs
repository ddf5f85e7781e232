//! Between a client's TCP connection and whoever serves it in this process: carries bytes, and lets them wait, stop or end in a reset as
//! the illness says.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::Patient;
use super::illness::{Step, Way};

const CHUNK: usize = 16 * 1024;

/// A reset was asked for.
struct Reset;

/// Carries a connection to its end. `reset` ends it at once by RST.
pub(super) async fn carry_line(
    mut client: TcpStream,
    server: DuplexStream,
    patient: &Patient,
    reset: CancellationToken,
) {
    let is_reset = {
        let (client_reads, client_writes) = client.split();
        let (server_reads, server_writes) = tokio::io::split(server);
        tokio::select! {
            () = reset.cancelled() => true,
            outcome = async {
                tokio::try_join!(
                    carry(client_reads, server_writes, patient, Way::Up),
                    carry(server_reads, client_writes, patient, Way::Down),
                )
            } => outcome.is_err(),
        }
    };
    if is_reset {
        // What is dropped with this set is reset, not closed.
        let _ = client.set_zero_linger();
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    patient: &Patient,
    way: Way,
) -> Result<(), Reset> {
    let mut buffer = vec![0; CHUNK];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        patient.count_bytes(way, read);
        loop {
            match patient.carry(way, read) {
                Step::Go => break,
                Step::Wait(time) => {
                    tokio::time::sleep(time).await;
                    break;
                }
                Step::Silence => patient.changed().await,
                Step::Reset => return Err(Reset),
            }
        }
        let Some(bytes) = buffer.get(..read) else { break };
        if to.write_all(bytes).await.is_err() || to.flush().await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
    Ok(())
}
