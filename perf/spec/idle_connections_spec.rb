# frozen_string_literal: true

require "socket"
require_relative "../lib/kino_bench"

RSpec.describe KinoBench::IdleConnections do
  Named = Data.define(:name, :port)

  # Holds connections to a server that answers each with this text, or closes it at once.
  def hold(count, text)
    TCPServer.open("127.0.0.1", 0) do |listening|
      @peers = Queue.new
      accepting = Thread.new do
        loop do
          peer = listening.accept
          text ? peer.gets("\r\n\r\n") && peer.write(text) : peer.close
          @peers << peer
        end
      end
      described_class.hold(Named.new("mine", listening.local_address.ip_port), count, "/") do |idle|
        yield idle
      end
    ensure
      accepting.kill.join
    end
  end

  def becomes?(value)
    deadline = now + 5
    until (reached = yield == value) || now > deadline do nil end
    reached
  end

  def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

  let(:answer) { "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi" }

  it "opens as many as it should, each of which had its answer" do
    hold(5, answer) { expect(_1).to have_attributes(size: 5, lost: 0) }
    expect(becomes?(5) { @peers.size }).to be true
  end

  it "counts those that the server closed, or wrote to" do
    hold(5, answer) do |idle|
      @peers.pop.close
      expect(becomes?(1) { idle.lost }).to be true
      @peers.pop.write("x")
      expect(becomes?(2) { idle.lost }).to be true
    end
  end

  it "closes them so that no port stays taken" do
    peer = nil
    hold(1, answer) { peer = @peers.pop }
    expect { peer.read }.to raise_error(Errno::ECONNRESET)
  end

  {
    nil => /mine answers only 0 of 3 idle connections: /,
    "HTTP/1.1 200 OK\r\n\r\n" => /mine sends no content-length/
  }.each do |text, message|
    it "gives up on a server that answers #{text.inspect}" do
      expect { hold(3, text) { raise "held" } }.to raise_error(KinoBench::Failure, message)
    end
  end
end
