package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/webrtc"
)

const (
	// How long a peer may take to be connected.
	patience = 20 * time.Second
	// Bytes of a packet's payload: with its headers a full one.
	payloadSize = 1160
	// How a payload begins that a publisher of this program made; its time follows.
	mark = "srs-proxy"
)

// One WHIP or WHEP session.
type client struct {
	pc       *webrtc.PeerConnection
	location string
}

func newClient() (*client, error) {
	pc, err := newAPI(settings()).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, err
	}
	return &client{pc: pc}, nil
}

// Signals, and waits until it is connected.
func (c *client) connect(endpoint string) error {
	offer, err := c.pc.CreateOffer(nil)
	if err != nil {
		return err
	}
	sdp, err := gathered(c.pc, offer)
	if err != nil {
		return err
	}
	answer, err := c.signal(endpoint, sdp)
	if err != nil {
		return err
	}
	if err := c.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer}); err != nil {
		return err
	}
	// Looked at, not listened to: Pion works out the state of the connection from those of ICE and DTLS, each when that
	// changes, and if both do at once it may say for ever that it is connecting.
	for begin := time.Now(); c.pc.SCTP().Transport().State() != webrtc.DTLSTransportStateConnected; {
		if time.Since(begin) > patience {
			return fmt.Errorf("not connected within %v", patience)
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// Sends the offer, by WHIP or WHEP or in SRS's JSON as the endpoint wants it; gives the answer.
func (c *client) signal(endpoint, sdp string) (string, error) {
	base, err := url.Parse(endpoint)
	if err != nil {
		return "", err
	}
	isJSON := strings.HasPrefix(base.Path, "/rtc/v1/p")
	contentType, offer := "application/sdp", []byte(sdp)
	if isJSON {
		query := base.Query()
		stream := fmt.Sprintf("webrtc://%s/%s/%s", base.Host, query.Get("app"), query.Get("stream"))
		base.RawQuery = ""
		contentType = "application/json"
		offer, err = json.Marshal(map[string]string{"api": base.String(), "sdp": sdp, "streamurl": stream})
		if err != nil {
			return "", err
		}
	}
	response, err := http.Post(base.String(), contentType, bytes.NewReader(offer))
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	if isJSON {
		var answer struct {
			Code int
			Sdp  string
		}
		if err := json.Unmarshal(body, &answer); err != nil || answer.Code != 0 {
			return "", fmt.Errorf("%s: %s", response.Status, body)
		}
		return answer.Sdp, nil
	}
	if response.StatusCode != http.StatusCreated {
		return "", fmt.Errorf("%s: %s", response.Status, body)
	}
	location, err := base.Parse(response.Header.Get("Location"))
	if err != nil {
		return "", err
	}
	c.location = location.String()
	return string(body), nil
}

// Says goodbye, if there is a resource to say it to; gives the answer's status.
func (c *client) leave() int {
	defer c.pc.Close()
	if c.location == "" {
		return 0
	}
	request, err := http.NewRequest(http.MethodDelete, c.location, nil)
	if err != nil {
		return 0
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0
	}
	response.Body.Close()
	return response.StatusCode
}

// Is done after this time, or sooner if the program is asked to end.
func lasting(period time.Duration) (context.Context, context.CancelFunc) {
	asked, forget := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	over, cancel := context.WithTimeout(asked, period)
	return over, func() { cancel(); forget() }
}

// Sends packets that carry their time. To a decoder they are nonsense.
func publish(endpoint string, pps int, period time.Duration) error {
	c, err := newClient()
	if err != nil {
		return err
	}
	capability := webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000}
	track, err := webrtc.NewTrackLocalStaticRTP(capability, "video", "stream")
	if err != nil {
		return err
	}
	if _, err := c.pc.AddTrack(track); err != nil {
		return err
	}
	if err := c.connect(endpoint); err != nil {
		return err
	}
	over, forget := lasting(period)
	defer forget()
	fmt.Println("CONNECTED")
	ticks := time.NewTicker(time.Second / time.Duration(pps))
	defer ticks.Stop()
	sent := 0
	for {
		select {
		case <-over.Done():
			return json.NewEncoder(os.Stdout).Encode(map[string]int{"packets": sent, "delete": c.leave()})
		case <-ticks.C:
		}
		payload := make([]byte, payloadSize)
		copy(payload, mark)
		binary.BigEndian.PutUint64(payload[len(mark):], uint64(time.Now().UnixNano()))
		header := rtp.Header{Version: 2, SequenceNumber: uint16(sent), Timestamp: uint32(sent * 90000 / pps), Marker: true}
		if err := track.WriteRTP(&rtp.Packet{Header: header, Payload: payload}); err != nil {
			return err
		}
		sent++
	}
}

// What viewers saw.
type seen struct {
	mu                              sync.Mutex
	connected, packets, lost, later int
	candidates                      map[string]bool
	failures                        []string
	latency                         []time.Duration
	// The longest time between two packets of one viewer.
	gap time.Duration
}

func play(endpoint string, viewers int, period time.Duration, vanish bool) error {
	all := &seen{candidates: map[string]bool{}}
	clients := make([]*client, viewers)
	var arriving sync.WaitGroup
	for n := range clients {
		arriving.Add(1)
		go func(n int) {
			defer arriving.Done()
			c, err := all.watch(endpoint)
			all.mu.Lock()
			defer all.mu.Unlock()
			if err != nil {
				all.failures = append(all.failures, err.Error())
				return
			}
			clients[n] = c
			all.connected++
		}(n)
	}
	arriving.Wait()
	over, forget := lasting(period)
	defer forget()
	fmt.Println("CONNECTED")
	<-over.Done()
	all.mu.Lock()
	sort.Slice(all.latency, func(a, b int) bool { return all.latency[a] < all.latency[b] })
	quantile := func(of float64) int64 {
		if len(all.latency) == 0 {
			return 0
		}
		return all.latency[int(of*float64(len(all.latency)-1))].Microseconds()
	}
	report := map[string]any{
		"viewers": viewers, "connected": all.connected, "packets": all.packets, "lost": all.lost, "later": all.later,
		"p50_us": quantile(0.5), "p99_us": quantile(0.99), "max_us": quantile(1), "gap_us": all.gap.Microseconds(), "failures": all.failures,
	}
	candidates := []string{}
	for candidate := range all.candidates {
		candidates = append(candidates, candidate)
	}
	report["candidates"] = candidates
	all.mu.Unlock()
	if !vanish {
		deleted := map[int]int{}
		for _, c := range clients {
			if c != nil {
				deleted[c.leave()]++
			}
		}
		report["delete"] = deleted
	}
	return json.NewEncoder(os.Stdout).Encode(report)
}

// One viewer.
func (all *seen) watch(endpoint string) (*client, error) {
	c, err := newClient()
	if err != nil {
		return nil, err
	}
	for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo} {
		receives := webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionRecvonly}
		if _, err := c.pc.AddTransceiverFromKind(kind, receives); err != nil {
			return nil, err
		}
	}
	c.pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { all.receive(track) })
	if err := c.connect(endpoint); err != nil {
		c.pc.Close()
		return nil, err
	}
	pair, err := c.pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
	if err == nil && pair != nil {
		all.mu.Lock()
		defer all.mu.Unlock()
		all.candidates[fmt.Sprintf("%s:%d", pair.Remote.Address, pair.Remote.Port)] = true
	}
	return c, nil
}

// Counts packets, gaps in their sequence, and what comes out of it.
func (all *seen) receive(track *webrtc.TrackRemote) {
	buffer := make([]byte, 1600)
	packet, expected, isFirst, latest := &rtp.Packet{}, uint16(0), true, time.Now()
	for {
		length, _, err := track.Read(buffer)
		if err != nil {
			return
		}
		now := time.Now()
		if packet.Unmarshal(buffer[:length]) != nil {
			continue
		}
		all.mu.Lock()
		all.packets++
		if gap := now.Sub(latest); gap > all.gap {
			all.gap = gap
		}
		latest = now
		switch gap := int16(packet.SequenceNumber - expected); {
		case isFirst || gap == 0:
			expected = packet.SequenceNumber + 1
		case gap > 0:
			all.lost += int(gap)
			expected = packet.SequenceNumber + 1
		default: // It had been counted as lost.
			all.lost--
			all.later++
		}
		isFirst = false
		if payload := packet.Payload; len(payload) >= len(mark)+8 && string(payload[:len(mark)]) == mark {
			sent := int64(binary.BigEndian.Uint64(payload[len(mark):]))
			all.latency = append(all.latency, now.Sub(time.Unix(0, sent)))
		}
		all.mu.Unlock()
	}
}
