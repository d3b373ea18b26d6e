// A WebSocket broadcaster as one writes it with gorilla/websocket: a message is framed once
// (PreparedMessage), and each viewer has a goroutine that writes and a channel before it.
//
//	HTTP_PORT   0 or absent: a free one
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"regexp"
	"sync"
	"syscall"
	"time"

	"github.com/gorilla/websocket"
)

const (
	queueLength  = 1024 // messages that a viewer may lag behind before it is let go
	writeTimeout = 10 * time.Second
)

var (
	paths    = regexp.MustCompile(`^/(live|publish)/([A-Za-z0-9][A-Za-z0-9._-]{0,127})$`)
	upgrader = websocket.Upgrader{ReadBufferSize: 1024, WriteBufferSize: 1024, WriteBufferPool: &sync.Pool{}}
)

type viewer struct {
	socket *websocket.Conn
	queue  chan *websocket.PreparedMessage
}

type room struct {
	lock    sync.Mutex
	viewers map[*viewer]struct{}
}

type hub struct {
	lock  sync.Mutex
	rooms map[string]*room
}

func (h *hub) room(slug string) *room {
	h.lock.Lock()
	defer h.lock.Unlock()
	found, ok := h.rooms[slug]
	if !ok {
		found = &room{viewers: map[*viewer]struct{}{}}
		h.rooms[slug] = found
	}
	return found
}

func (r *room) join(v *viewer) {
	r.lock.Lock()
	defer r.lock.Unlock()
	r.viewers[v] = struct{}{}
}

// leave closes the viewer's queue, which ends its writer, and its writer closes the socket.
func (r *room) leave(v *viewer) {
	r.lock.Lock()
	defer r.lock.Unlock()
	r.drop(v)
}

func (r *room) drop(v *viewer) {
	if _, ok := r.viewers[v]; ok {
		delete(r.viewers, v)
		close(v.queue)
	}
}

func (r *room) broadcast(message *websocket.PreparedMessage) {
	r.lock.Lock()
	defer r.lock.Unlock()
	for v := range r.viewers {
		select {
		case v.queue <- message:
		default:
			r.drop(v)
		}
	}
}

func (v *viewer) write() {
	defer v.socket.Close()
	for message := range v.queue {
		if v.socket.SetWriteDeadline(time.Now().Add(writeTimeout)) != nil {
			return
		}
		if v.socket.WritePreparedMessage(message) != nil {
			return
		}
	}
}

func watch(r *room, socket *websocket.Conn) {
	v := &viewer{socket: socket, queue: make(chan *websocket.PreparedMessage, queueLength)}
	r.join(v)
	defer r.leave(v)
	go v.write()
	for {
		if _, _, err := socket.NextReader(); err != nil {
			return
		}
	}
}

func publish(r *room, socket *websocket.Conn) {
	defer socket.Close()
	for {
		kind, text, err := socket.ReadMessage()
		if err != nil {
			return
		}
		if kind != websocket.TextMessage {
			continue
		}
		message, err := websocket.NewPreparedMessage(kind, text)
		if err != nil {
			return
		}
		r.broadcast(message)
	}
}

func (h *hub) ServeHTTP(response http.ResponseWriter, request *http.Request) {
	match := paths.FindStringSubmatch(request.URL.Path)
	if match == nil {
		http.NotFound(response, request)
		return
	}
	socket, err := upgrader.Upgrade(response, request, nil)
	if err != nil {
		return
	}
	if match[1] == "live" {
		watch(h.room(match[2]), socket)
	} else {
		publish(h.room(match[2]), socket)
	}
}

func main() {
	port := os.Getenv("HTTP_PORT")
	if port == "" {
		port = "0"
	}
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-ended
		os.Exit(0)
	}()
	fmt.Printf("ready http=%s\n", listener.Addr())
	log.Fatal(http.Serve(listener, &hub{rooms: map[string]*room{}}))
}
