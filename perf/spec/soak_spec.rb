# frozen_string_literal: true

require_relative "../lib/soak/client"
require_relative "../lib/soak/memory"

RSpec.describe Soak::Client do
  let(:right) { "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi" }
  let(:exchange) { Soak::Connection::Exchange.new(request: "GET / HTTP/1.1\r\n\r\n", body: "hi") }
  let(:tally) { @client.tally }

  # A client of one connection, whose server does with each connection what the block says.
  def with_client(serve)
    TCPServer.open("127.0.0.1", 0) do |server|
      peer = Thread.new { loop { server.accept.then(&serve).close } }
      @client = described_class.new(server.local_address.ip_port, [exchange], 1)
      yield
    ensure
      peer.kill.join
    end
  end

  def read_request(socket) = socket.gets("\r\n\r\n")

  # Answers the first requests with these texts, then ends the connection.
  def answering(*texts)
    lambda do |socket|
      texts.each { |text| read_request(socket) && socket.write(text) }
      socket
    end
  end

  def run_until(&done)
    catch(:done) { @client.run(Float::INFINITY) { throw :done if done.call } }
  end

  it "goes on asking on one connection, and counts right answers" do
    with_client(answering(*[right] * 50)) do
      run_until { tally.answered >= 30 }
      expect(tally).to have_attributes(wrong: 0, lost: 0, cut: 0, refused: 0)
    end
  end

  it "counts an answer that comes in pieces once" do
    pieces = lambda do |socket|
      read_request(socket)
      right.each_char { socket.write(_1) }
      read_request(socket)
      socket
    end
    with_client(pieces) do
      run_until { tally.answered == 1 }
      expect(tally).to have_attributes(wrong: 0, cut: 0)
    end
  end

  it "counts another status, another body, and bytes behind an answer as wrong" do
    error = "HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nhi"
    [error, right.sub("hi", "ho"), "#{right}?"].each do |text|
      with_client(answering(text)) do
        run_until { tally.wrong == 1 }
        expect(tally.answered).to eq 0
      end
    end
  end

  it "counts a request as lost when its connection ends without an answer" do
    with_client(->(socket) { read_request(socket) && socket }) do
      run_until { tally.lost >= 1 }
      expect(tally).to have_attributes(answered: 0, refused: 0, cut: 0)
    end
  end

  it "counts a request as cut when its connection ends within the answer" do
    with_client(answering(right.chop)) do
      run_until { tally.cut >= 1 }
      expect(tally).to have_attributes(answered: 0, lost: 0)
    end
  end

  it "opens another connection after one that the server announced to close" do
    with_client(answering(right.sub("\r\n", "\r\nConnection: close\r\n"))) do
      run_until { tally.answered >= 3 }
      expect(tally.lost).to eq 0
    end
  end

  describe "after TERM" do
    # The server holds back its second answer until the signal is said to be sent.
    def drain(last)
      gate = Queue.new
      serve = lambda do |socket|
        read_request(socket) && socket.write(right)
        read_request(socket) && gate.pop
        last.call(socket)
        socket
      end
      with_client(serve) do
        run_until { tally.answered == 1 }
        @client.terminated!
        gate << true
        @client.run_out(Process.clock_gettime(Process::CLOCK_MONOTONIC) + 5)
        expect(@client.open_connections).to eq 0
      end
    end

    it "still counts a request as lost that was sent before" do
      drain(->(_) {})
      expect(tally).to have_attributes(answered: 1, lost: 1, refused: 0)
    end

    it "allows a later request to find its connection closed" do
      drain(->(socket) { socket.write(right) && read_request(socket) })
      expect(tally).to have_attributes(answered: 2, lost: 0, refused: 1)
    end

    it "allows a later request to be answered 503" do
      drain(lambda { |socket|
        socket.write(right) && read_request(socket)
        socket.write("HTTP/1.1 503 Away\r\nConnection: close\r\n\r\n")
      })
      expect(tally).to have_attributes(answered: 2, wrong: 0, refused: 1)
    end

    it "still counts a later request as cut" do
      drain(->(socket) { socket.write(right) && read_request(socket) && socket.write(right.chop) })
      expect(tally).to have_attributes(answered: 2, cut: 1, refused: 0)
    end

    it "opens no connection any more" do
      drain(->(socket) { socket.write(right.sub("\r\n", "\r\nConnection: close\r\n")) })
      expect(tally).to have_attributes(answered: 2, lost: 0, refused: 0)
    end
  end
end

RSpec.describe Soak::Memory do
  # The memory after samples of these megabytes at these seconds.
  def memory(samples)
    time = 0
    described_class.new(-> { time }, -> { samples[time] * 1_000_000 }).tap do |memory|
      samples.each_key do |at|
        time = at
        memory.sample
      end
    end
  end

  it "samples no more often than it should" do
    calls = 0
    time = 0
    memory = described_class.new(-> { time }, -> { calls += 1 })
    [0, 1, 4.9, 5, 6, 10].each do |at|
      time = at
      memory.sample
    end
    expect(calls).to eq 3
  end

  it "lets the first minute grow, and judges by the sample that ends it" do
    grown = memory({ 0 => 10, 30 => 90, 60 => 100, 65 => 104, 70 => 96 })
    expect(grown).to be_steady
    expect(grown.to_s).to eq "100.0 MB after a minute, then -4.0 % to +4.0 %"
  end

  it "is not steady beyond the tolerance, up or down" do
    expect(memory({ 0 => 1, 60 => 100, 65 => 106 })).not_to be_steady
    expect(memory({ 0 => 1, 60 => 100, 65 => 94 })).not_to be_steady
  end

  it "does not judge a run of less than a minute" do
    short = memory({ 0 => 10, 30 => 90 })
    expect(short).to be_steady
    expect(short.to_s).to start_with "not judged"
  end
end
