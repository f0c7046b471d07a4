package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/webrtc"
)

// How often a publisher is asked for a key frame, so that viewers that come later see a picture.
const keyFrameEvery = time.Second

// One published stream.
type stream struct {
	tracks  map[string]*webrtc.TrackLocalStaticRTP
	packets int
}

// One peer connection.
type session struct {
	Role   string `json:"role"`
	Stream string `json:"stream"`
	State  string `json:"state"`
	pc     *webrtc.PeerConnection
}

// What arrived on HTTP.
type request struct {
	Method        string `json:"method"`
	URI           string `json:"uri"`
	Host          string `json:"host"`
	Authorization string `json:"authorization"`
	ForwardedFor  string `json:"forwarded_for"`
}

type origin struct {
	api  *webrtc.API
	bare bool

	mu       sync.Mutex
	streams  map[string]*stream
	sessions map[string]*session
	requests []request
	started  int
}

// Serves HTTP and media, until it is killed. Ports may be 0; says READY with both.
func serve(addr string, udp int, bare bool) error {
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: udp})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	settings := settings()
	settings.SetLite(true)
	settings.SetICEUDPMux(webrtc.NewICEUDPMux(nil, socket))
	settings.SetNAT1To1IPs([]string{"127.0.0.1"}, webrtc.ICECandidateTypeHost)
	o := &origin{api: newAPI(settings), bare: bare, streams: map[string]*stream{}, sessions: map[string]*session{}}
	for _, role := range []string{"whip", "whep", "publish", "play"} {
		http.HandleFunc("/rtc/v1/"+role+"/", o.offer(role))
	}
	http.HandleFunc("/session/", o.resource)
	http.HandleFunc("/stats", o.stats)
	fmt.Println("READY", listener.Addr(), socket.LocalAddr())
	return http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range map[string]string{"Origin": "*", "Methods": "*", "Headers": "*"} {
			w.Header().Set("Access-Control-Allow-"+name, value)
		}
		w.Header().Set("Access-Control-Expose-Headers", "Location, ETag, Link")
		if r.Method == http.MethodOptions {
			return
		}
		if r.URL.Path != "/stats" {
			o.mu.Lock()
			o.requests = append(o.requests, request{
				r.Method, r.RequestURI, r.Host, r.Header.Get("Authorization"), r.Header.Get("X-Forwarded-For"),
			})
			o.mu.Unlock()
		}
		http.DefaultServeMux.ServeHTTP(w, r)
	}))
}

// WHIP and WHEP, and SRS's JSON forms of them. DELETE and PATCH of SRS's kind of Location come here too.
func (o *origin) offer(role string) http.HandlerFunc {
	publishes := role == "whip" || role == "publish"
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("session") != "" {
			o.resource(w, r)
			return
		}
		body, _ := io.ReadAll(r.Body)
		sdp, name := string(body), r.URL.Query().Get("app")+"/"+r.URL.Query().Get("stream")
		isJSON := role == "publish" || role == "play"
		if isJSON {
			var envelope struct{ Sdp, StreamURL string }
			if err := json.Unmarshal(body, &envelope); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			sdp = envelope.Sdp
			if u, err := url.Parse(envelope.StreamURL); err == nil {
				name = strings.TrimPrefix(u.Path, "/")
			}
		}
		id, answer, status, err := o.answer(name, sdp, publishes)
		if isJSON {
			w.Header().Set("Content-Type", "application/json")
			if err != nil {
				json.NewEncoder(w).Encode(map[string]any{"code": status, "data": err.Error()})
				return
			}
			json.NewEncoder(w).Encode(map[string]any{"code": 0, "server": "pion", "sdp": answer, "sessionid": id})
			return
		}
		if err != nil {
			http.Error(w, err.Error(), status)
			return
		}
		location := "/session/" + id
		if !o.bare {
			location = r.URL.Path + "?action=delete&" + r.URL.RawQuery + "&session=" + id
		}
		w.Header().Set("Location", location)
		w.Header().Set("ETag", strconv.Quote(id))
		w.Header().Set("Content-Type", "application/sdp")
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, answer)
	}
}

func (o *origin) answer(name, offer string, publishes bool) (id, sdp string, status int, err error) {
	pc, err := o.api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return "", "", http.StatusInternalServerError, err
	}
	role := "whep"
	o.mu.Lock()
	if publishes {
		role = "whip"
		published := &stream{tracks: map[string]*webrtc.TrackLocalStaticRTP{}}
		o.streams[name] = published
		pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { o.relay(pc, published, track) })
	} else if published := o.streams[name]; published != nil {
		for _, track := range published.tracks {
			if _, err = pc.AddTrack(track); err != nil {
				break
			}
		}
	} else {
		err = fmt.Errorf("nobody publishes %s", name)
	}
	o.started++
	id = strconv.Itoa(o.started)
	o.mu.Unlock()
	if err != nil {
		pc.Close()
		return "", "", http.StatusNotFound, err
	}
	if sdp, err = negotiate(pc, offer); err != nil {
		pc.Close()
		return "", "", http.StatusBadRequest, err
	}
	s := &session{Role: role, Stream: name, State: "new", pc: pc}
	o.mu.Lock()
	o.sessions[id] = s
	o.mu.Unlock()
	pc.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		o.mu.Lock()
		defer o.mu.Unlock()
		s.State = state.String()
	})
	return id, sdp, 0, nil
}

func negotiate(pc *webrtc.PeerConnection, offer string) (string, error) {
	if err := pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return "", err
	}
	answer, err := pc.CreateAnswer(nil)
	if err != nil {
		return "", err
	}
	return gathered(pc, answer)
}

// Moves one track's packets from its publisher to all viewers.
func (o *origin) relay(pc *webrtc.PeerConnection, published *stream, track *webrtc.TrackRemote) {
	local, err := webrtc.NewTrackLocalStaticRTP(track.Codec().RTPCodecCapability, track.Kind().String(), "stream")
	if err != nil {
		return
	}
	o.mu.Lock()
	published.tracks[track.Kind().String()] = local
	o.mu.Unlock()
	if track.Kind() == webrtc.RTPCodecTypeVideo {
		ask := []rtcp.Packet{&rtcp.PictureLossIndication{MediaSSRC: uint32(track.SSRC())}}
		ticks := time.NewTicker(keyFrameEvery)
		defer ticks.Stop()
		go func() {
			for range ticks.C {
				if pc.WriteRTCP(ask) != nil {
					return
				}
			}
		}()
	}
	for {
		packet, _, err := track.ReadRTP()
		if err != nil {
			return
		}
		o.mu.Lock()
		published.packets++
		o.mu.Unlock()
		local.WriteRTP(packet)
	}
}

// DELETE ends a session; PATCH brings candidates, of which an ICE-lite server needs none.
func (o *origin) resource(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("session")
	if id == "" {
		id = strings.TrimPrefix(r.URL.Path, "/session/")
	}
	o.mu.Lock()
	s := o.sessions[id]
	if s != nil && r.Method == http.MethodDelete {
		delete(o.sessions, id)
		if s.Role == "whip" {
			delete(o.streams, s.Stream)
		}
	}
	o.mu.Unlock()
	switch {
	case s == nil:
		http.NotFound(w, r)
	case r.Method == http.MethodDelete:
		s.pc.Close()
	case r.Method == http.MethodPatch:
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}

func (o *origin) stats(w http.ResponseWriter, _ *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	streams := map[string]any{}
	for name, published := range o.streams {
		streams[name] = map[string]int{"tracks": len(published.tracks), "packets": published.packets}
	}
	json.NewEncoder(w).Encode(map[string]any{"streams": streams, "sessions": o.sessions, "requests": o.requests})
}
