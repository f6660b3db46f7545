# frozen_string_literal: true

require "socket"

module Soak
  # One keep-alive connection with one request under way at a time, never blocking.
  class Connection
    READ_BYTES = 65_536

    # A request with the body of the answer that it must get.
    Exchange = Data.define(:request, :body)

    attr_reader :socket

    # exchanges: what to ask, in turn.
    def initialize(port, exchanges, tally)
      @exchanges = exchanges.cycle
      @tally = tally
      @input = String.new(capacity: READ_BYTES)
      @chunk = String.new(capacity: READ_BYTES)
      @socket = TCPSocket.new("127.0.0.1", port)
      @socket.setsockopt(Socket::IPPROTO_TCP, Socket::TCP_NODELAY, true)
    end

    def closed? = @socket.closed?

    # terminated: whether the server has got its TERM.
    def ask(terminated)
      @exchange = @exchanges.next
      @sent_after_term = terminated
      # A request is far smaller than the empty send buffer of a loopback socket, so it goes whole.
      written = @socket.write_nonblock(@exchange.request)
      raise "only #{written} bytes of a request went" if written < @exchange.request.bytesize
    rescue Errno::EPIPE, Errno::ECONNRESET
      close
    end

    # Reads what is there and, once an answer is whole, asks again.
    def proceed(terminated)
      case @socket.read_nonblock(READ_BYTES, @chunk, exception: false)
      when :wait_readable then nil
      when nil then close
      else
        @input << @chunk
        answer(terminated)
      end
    rescue Errno::ECONNRESET
      close
    end

    private

    def answer(terminated)
      head_bytes = @input.index("\r\n\r\n")&.+(4) or return
      head = @input.byteslice(0, head_bytes)
      bytes = head_bytes + head[/^content-length: *(\d+)/i, 1].to_i
      return if @input.bytesize < bytes

      judge(head.byteslice(9, 3), @input.byteslice(head_bytes..))
      @input.clear
      head.match?(/^connection: *close/i) ? @socket.close : ask(terminated)
    end

    # Whatever came behind the answer counts as part of it, and so makes it wrong.
    def judge(status, body)
      if status == "200" && body == @exchange.body then @tally.answered += 1
      elsif status == "503" && @sent_after_term then @tally.refused += 1
      else @tally.wrong += 1
      end
    end

    # There is always a request under way when the server ends the connection.
    def close
      @socket.close
      if !@input.empty? then @tally.cut += 1
      elsif @sent_after_term then @tally.refused += 1
      else @tally.lost += 1
      end
    end
  end
end
