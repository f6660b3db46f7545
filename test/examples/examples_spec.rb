# frozen_string_literal: true

require "fileutils"
require "open3"
require "socket"
require "stringio"
require "tmpdir"
require_relative "../support/server_process"

# libkino/examples as they were built in the directory that EXAMPLES names.
RSpec.describe "libkino/examples" do
  def words(command)
    name, *arguments = command.split
    [File.join(ENV.fetch("EXAMPLES"), name), *arguments]
  end

  ["hello 0", "hello 0 2", "workers 0 2 queue", "workers 0 2 lanes",
   "workers 0 2 inline"].each do |command|
    it "#{command}: answers, and leaves on TERM" do
      server = ServerProcess.new(*words(command), answer: "Hello World")
      expect(server.stop).to be_success
    end
  end

  describe "echo" do
    it "sends a body back while it comes, by length and by chunks" do
      server = ServerProcess.new(*words("echo 0"), answer: "")
      body = Random.new(1).bytes(3_000_000)
      http = Net::HTTP.start("127.0.0.1", server.port)
      expect(http.post("/", body).body).to eq body
      request = Net::HTTP::Put.new("/", "transfer-encoding" => "chunked")
      request.body_stream = StringIO.new(body)
      expect(http.request(request).body).to eq body
      http.finish
    ensure
      expect(server.stop).to be_success
    end
  end

  describe "static" do
    around do |example|
      Dir.mktmpdir do |root|
        FileUtils.mkdir_p("#{root}/served/below")
        File.binwrite("#{root}/served/below/file", body)
        File.write("#{root}/served/index", "index")
        File.write("#{root}/secret", "secret")
        File.symlink("../secret", "#{root}/served/link")
        @root = root
        example.run
      end
    end

    let(:body) { Random.new(1).bytes(1_000_000) }

    def get(port, path)
      TCPSocket.open("127.0.0.1", port) do |socket|
        socket.write "GET #{path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        head, _, body = socket.read.partition("\r\n\r\n")
        [head[/ (\d+)/, 1], body]
      end
    end

    it "serves what is below its directory, and nothing else" do
      server = ServerProcess.new(*words("static 0 #{@root}/served"), answer: nil)
      expect(get(server.port, "/index")).to eq %w[200 index]
      expect(get(server.port, "/below/file")).to eq ["200", body]
      %w[/../secret /link /below/../../secret /%2e%2e/secret //etc/passwd /below / /nothing].each do |path|
        expect(get(server.port, path).first).to eq("404"), path
      end
    ensure
      expect(server.stop).to be_success
    end
  end

  ["echo", "static 0", "static 0 /nowhere", "hello", "hello 0 0", "workers 0", "workers 0 2 sideways"].each do |command|
    it "#{command}: says in one line how it is used" do
      _, line, status = Open3.capture3(*words(command))
      expect(line).to match(/\Ausage: \w+ PORT .*\n\z/)
      expect(status.exitstatus).to eq 1
    end
  end

  it "says in one line that a port is in use" do
    server = ServerProcess.new(*words("hello 0"), answer: "Hello World")
    %w[hello workers].zip(["", "1 queue"]) do |name, rest|
      _, line, status = Open3.capture3(*words("#{name} #{server.port} #{rest}"))
      expect(line).to match(/\A#{name}: .*#{server.port}.*\n\z/)
      expect(status.exitstatus).to eq 1
    end
  ensure
    server&.stop
  end
end
