# frozen_string_literal: true

require "rbconfig"
require "tmpdir"
require_relative "../lib/kino_bench"

RSpec.describe KinoBench::RunningServer do
  def with_server(script)
    Dir.mktmpdir do |directory|
      arguments = [RbConfig.ruby, "--disable=gems", "-e", script, "%{port}"]
      server = KinoBench::Server.new("mine", arguments)
      running = described_class.new(server, directory)
      yield running
    ensure
      running&.stop
    end
  end

  let(:answering) { <<~'RUBY' }
    require "socket"
    server = TCPServer.new("127.0.0.1", ARGV[0].to_i)
    trap(:TERM) { exit 7 }
    loop do
      client = server.accept
      client.readpartial(1000)
      client.write("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nhi")
      client.close
    end
  RUBY

  it "waits for the first answer, and reaps the server after TERM" do
    with_server(answering) do |running|
      expect(running.await("/")).to have_attributes(status: 200, type: "text/plain", body: "hi")
      running.terminate
      expect(running.wait(5).exitstatus).to eq 7
      expect(running).not_to be_alive
    end
  end

  it "repeats the last words of a server that ends before it answers" do
    with_server("abort 'no such port'") do |running|
      expect { running.await("/") }
        .to raise_error(KinoBench::Failure, "mine ended before it answered: no such port | exit 1")
    end
  end

  it "lets the server have all descriptors that the machine allows" do
    with_server("abort Process.getrlimit(:NOFILE).inspect") do |running|
      running.wait(5)
      most = Process.getrlimit(:NOFILE).last
      expect(running.last_words).to include([most, most].inspect)
    end
  end

  it "says so when there is no such command" do
    Dir.mktmpdir do |directory|
      server = KinoBench::Server.new("mine", ["/no/such/server", "%{port}"])
      expect { described_class.new(server, directory) }
        .to raise_error(KinoBench::Failure, /mine does not start: No such file/)
    end
  end
end
