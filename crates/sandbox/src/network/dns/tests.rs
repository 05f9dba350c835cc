//! Nobody's questions keep the others' from being answered.

use super::{LIMITS, Limits, Place, Questions, serve};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

/// What the server never answers, and what it does.
const UNANSWERED: &[u8] = b"unanswered";
const ANSWERED: &[u8] = b"answered";
/// Where nobody else is on the loopback device.
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 99);
/// With more than their share nobody of them gives way.
const UNFAIR: Limits = Limits {
    gives_way: false,
    ..LIMITS
};

/// The address of someone who asks without end.
fn greedy(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, u8::try_from(number + 1).expect("few"))
}

fn bound(address: Ipv4Addr) -> UdpSocket {
    let socket = UdpSocket::bind((address, 0)).expect("bound");
    socket.set_nonblocking(true).expect("set");
    socket
}

/// Opens what there is a place for of `each` questions by each of `many`.
fn open(questions: &Arc<Questions>, many: usize, each: usize) -> Vec<Place> {
    let asked = (0..many).flat_map(|number| (0..each).map(move |_| greedy(number).into()));
    asked
        .filter_map(|address: IpAddr| questions.place(address))
        .collect()
}

fn is_given_away(place: &mut Place) -> bool {
    place.given_away.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Closed)
}

#[test]
fn one_has_at_most_its_limit_and_all_have_at_most_theirs() {
    let questions = Questions::new(LIMITS);
    let one = open(&questions, 1, LIMITS.all);
    assert_eq!(one.len(), LIMITS.each);
    drop(one);
    assert!(questions.open().of.is_empty(), "all are free again");
    let mut all = open(&questions, 100, LIMITS.each);
    let kept = all
        .iter_mut()
        .filter_map(|place| (!is_given_away(place)).then_some(place.address));
    let mut of: BTreeMap<IpAddr, usize> = BTreeMap::new();
    kept.for_each(|address| *of.entry(address).or_default() += 1);
    assert_eq!(of.values().sum::<usize>(), LIMITS.all);
    let (least, most) = (of.values().min(), of.values().max());
    assert_eq!(
        (of.len(), least, most),
        (100, Some(&2), Some(&3)),
        "each has its share"
    );
}

/// The control is the same where nobody gives way: then there is no place.
#[test]
fn who_has_the_most_gives_way() {
    let many = LIMITS.all / LIMITS.each;
    let questions = Questions::new(LIMITS);
    let mut greedy = open(&questions, many, LIMITS.each);
    assert_eq!(greedy.len(), LIMITS.all);
    let neighbour = questions.place(NEIGHBOUR.into());
    assert!(neighbour.is_some());
    let given_away = greedy.iter_mut().map(is_given_away);
    assert_eq!(given_away.filter(|given_away| *given_away).count(), 1);
    let unfair = Questions::new(UNFAIR);
    let _greedy = open(&unfair, many, LIMITS.each);
    assert!(unfair.place(NEIGHBOUR.into()).is_none(), "the control");
}

/// Whether a neighbour is answered while as many as fill all places ask what is never answered.
#[test]
fn as_many_as_fill_all_places_leave_room_to_one_more() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let forwarder = bound(Ipv4Addr::LOCALHOST);
        let at = forwarder.local_addr().expect("bound");
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("listens");
        tcp.set_nonblocking(true).expect("set");
        let server = tokio::net::UdpSocket::from_std(bound(Ipv4Addr::LOCALHOST)).expect("async");
        let servers: [SocketAddr; 1] = [server.local_addr().expect("bound")];
        let test = async {
            let mut buffer = [0; 64];
            let many = LIMITS.all / LIMITS.each;
            for number in 0..many {
                let asker = tokio::net::UdpSocket::from_std(bound(greedy(number))).expect("async");
                for _ in 0..LIMITS.each {
                    asker.send_to(UNANSWERED, at).await.expect("asked");
                    server.recv_from(&mut buffer).await.expect("received");
                }
            }
            let neighbour = tokio::net::UdpSocket::from_std(bound(NEIGHBOUR)).expect("async");
            neighbour.send_to(ANSWERED, at).await.expect("asked");
            let (count, from) = server.recv_from(&mut buffer).await.expect("received");
            assert_eq!(&buffer[..count], ANSWERED);
            server.send_to(ANSWERED, from).await.expect("answered");
            let (count, _) = neighbour.recv_from(&mut buffer).await.expect("received");
            assert_eq!(&buffer[..count], ANSWERED);
        };
        let limited = tokio::time::timeout(Duration::from_secs(60), test);
        tokio::select! {
            done = limited => done.expect("in time"),
            ended = serve(forwarder, tcp, servers.into(), LIMITS) => panic!("{ended:?}"),
        }
    });
}
