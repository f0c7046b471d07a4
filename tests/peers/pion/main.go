// A WebRTC origin, publisher and many viewers on Pion. The origin forwards media untouched, has one UDP port for all, and
// is ICE-lite, as SRS is. Publisher and viewers measure loss and latency. All on loopback.
//
//	pion serve   [-http ADDR] [-udp PORT] [-bare]      says "READY HTTP UDP", then runs until it is killed
//	pion publish [-pps N] [-seconds N] URL             WHIP or SRS's JSON, as the URL says; prints what it sent as JSON
//	pion play    [-viewers N] [-seconds N] [-vanish] URL   WHEP or JSON; prints what arrived as JSON
//
// On SIGTERM the time of publisher and viewers is over: they leave as after it.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/pion/ice/v2"
	"github.com/pion/webrtc"
)

func settings() webrtc.SettingEngine {
	settings := webrtc.SettingEngine{}
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetInterfaceFilter(func(name string) bool { return name == "lo" })
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	settings.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	return settings
}

// Without interceptors: nothing is sent again, so that every loss is seen.
func newAPI(settings webrtc.SettingEngine) *webrtc.API {
	media := &webrtc.MediaEngine{}
	if err := media.RegisterDefaultCodecs(); err != nil {
		panic(err)
	}
	return webrtc.NewAPI(webrtc.WithSettingEngine(settings), webrtc.WithMediaEngine(media))
}

// The local description with all its candidates.
func gathered(pc *webrtc.PeerConnection, description webrtc.SessionDescription) (string, error) {
	complete := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(description); err != nil {
		return "", err
	}
	<-complete
	return pc.LocalDescription().SDP, nil
}

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("usage: pion serve|publish|play"))
	}
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	addr := flags.String("http", "127.0.0.1:0", "where the origin answers HTTP")
	udp := flags.Int("udp", 0, "where the origin takes media")
	bare := flags.Bool("bare", false, "the origin's Locations name no stream")
	pps := flags.Int("pps", 50, "packets a second")
	viewers := flags.Int("viewers", 1, "how many")
	seconds := flags.Int("seconds", 5, "how long, once connected")
	vanish := flags.Bool("vanish", false, "leave without a word")
	flags.Parse(os.Args[2:])
	period := time.Duration(*seconds) * time.Second
	switch os.Args[1] {
	case "serve":
		fail(serve(*addr, *udp, *bare))
	case "publish":
		fail(publish(flags.Arg(0), *pps, period))
	case "play":
		fail(play(flags.Arg(0), *viewers, period, *vanish))
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
